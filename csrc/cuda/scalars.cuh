// The scalars of a call, and powers of two that bring a matrix into float16's range.
#pragma once

#include <cstdint>

#include "device/device.cuh"
#include "scalars.h"

namespace fastclip::cuda {

// A factor of a whole matrix: the power of two f with f * largest in [2^7, 2^8).
FASTCLIP_DEVICE float power_of_two_factor(float largest) {
  const int exponent = (__float_as_int(largest) >> 23) & 255;
  // Clamped, so that f is finite and not zero: nan and inf stay what they are.
  const int power = min(max(261 - exponent, 1), 240);
  return __int_as_float(power << 23);
}

// Of features that are not normalised: the largest element, and the norm of the longest row.
struct Extent {
  float largest, norm;
};

// The largest |G| that is possible, from the largest |grad_total| and |grad_positive|. A nan stays.
FASTCLIP_DEVICE float bound_of_gradients(float largest_total, float largest_positive) {
  const float of_totals = 4.0f * largest_total;
  const bool positive = largest_positive > of_totals || largest_positive != largest_positive;
  return positive ? largest_positive : of_totals;
}

struct ScalarInputs {
  float scale;
  float bias;
  bool scaled;  // by the extents: features are not normalised
  Extent rows, cols;
  int longest_sum;
};

// All but those of gradients.
FASTCLIP_DEVICE void compute_scalars(const ScalarInputs& of, float* values) {
  constexpr float LARGEST_SUM = 96.0f;  // log2
  constexpr float KEPT_LEVELS = 32767.0f;
  float row_factor = 1.0f / UNIT_FACTOR, col_factor = 1.0f / UNIT_FACTOR;
  float bound = 1.01f * fabsf(of.scale) * LOG2_E;
  if (of.scaled) {
    row_factor = 1.0f / power_of_two_factor(of.rows.largest);
    col_factor = 1.0f / power_of_two_factor(of.cols.largest);
    bound *= of.rows.norm * of.cols.norm;
  }
  const float shift = bound + log2f(static_cast<float>(of.longest_sum)) - LARGEST_SUM;
  values[UNIT] = of.scale * LOG2_E * row_factor * col_factor;
  values[SHIFT] = shift < 0.0f ? 0.0f : shift;  // a nan stays one
  values[STEP] = bound / KEPT_LEVELS;
  values[SCALE] = of.scale;
  values[BIAS] = of.bias * LOG2_E;
}

// Those, from what `bound_of_gradients` says.
FASTCLIP_DEVICE void compute_gradient_scalars(const ScalarInputs& of, float largest,
                                              float* values) {
  float row_factor = 1.0f / UNIT_FACTOR, col_factor = 1.0f / UNIT_FACTOR;
  if (of.scaled) {
    row_factor = 1.0f / power_of_two_factor(of.rows.largest);
    col_factor = 1.0f / power_of_two_factor(of.cols.largest);
  }
  const float weight = power_of_two_factor(largest) * 64.0f;
  values[WEIGHT] = weight;
  values[GRAD_ROW] = col_factor / weight;
  values[GRAD_COL] = row_factor / weight;
}

}  // namespace fastclip::cuda
