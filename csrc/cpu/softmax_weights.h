// The weight of one logit in the softmax of its row and of its column, for loops to inline.
#pragma once

#include <limits>

#include "simd_math.h"

namespace fastclip::cpu {

// Below it a gradient of a logit, whose weights are at most 1, is written as zero.
template <typename T>
inline constexpr T kNegligible = T(0x1p-100);

// exp(-inf - 0) is 0, exp(-inf + inf) would be nan: an empty maximum is no shift.
template <typename T>
FASTCLIP_INLINE T finite_shift(T maximum) {
  return maximum == -std::numeric_limits<T>::infinity() ? T(0) : maximum;
}

// `row_shift` is finite, a maximum of columns need not be.
template <typename T>
FASTCLIP_INLINE T softmax_weight(T logit, T row_weight, T row_shift, T col_weight, T col_max) {
  return row_weight * exp_nonpositive(logit - row_shift) +
         col_weight * exp_nonpositive(logit - finite_shift(col_max));
}

template <typename T>
FASTCLIP_INLINE T without_negligible(T value) {
  const bool negligible = value < kNegligible<T> && value > -kNegligible<T>;
  return negligible ? T(0) : value;
}

}  // namespace fastclip::cpu
