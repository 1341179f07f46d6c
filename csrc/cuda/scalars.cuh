// Powers of two that bring a matrix into float16's range.
#pragma once

#include <cstdint>

#include "device/device.cuh"

namespace fastclip::cuda {

// A factor of a whole matrix: the power of two f with f * largest in [2^7, 2^8).
FASTCLIP_DEVICE float power_of_two_factor(float largest) {
  const int exponent = (__float_as_int(largest) >> 23) & 255;
  // Clamped, so that f is finite and not zero: nan and inf stay what they are.
  const int power = min(max(261 - exponent, 1), 240);
  return __int_as_float(power << 23);
}

}  // namespace fastclip::cuda
