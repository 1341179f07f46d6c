// G, the gradient of the loss w.r.t. the logits, from a thread's logits; on every architecture.
//
// Math
//   G_ij = g_i 2^(logit_ij - shift_i) + g'_j 2^(logit_ij - shift'_j)   for negatives
//   G_ij = h_i                                                       for pairs
//   with g, g', h the gradients w.r.t. totals and positives. What is stored is `weight` G
//   (scalars.cu), in one plane or two:
//     high = fp16(weight G);  low = fp16(2^11 (weight G - high))
// Numerics
//   Two exponentials: each is at most about 1 whatever the data, where one with factors
//   2^(shift - shift_i) could overflow. A pair is written from its vector, never as p - 1.
//   float16 keeps 11 bits of G down to 2^-28 of the largest, and loses it below 2^-38.
#pragma once

#include "fragment.cuh"
#include "logit_gradients.h"
#include "logit_matrix.cuh"
#include "scalars.h"

namespace fastclip::cuda {

constexpr float LOW_SCALE = 2048.0f;  // 2^11

// Of a row or a column.
struct SideWeight {
  float shift;   // in log2 units
  float weight;  // of its exponential
};

// `index` of (M + N,); outside of the matrix, and without negatives, nothing.
FASTCLIP_DEVICE SideWeight side_weight(const GradientWeights& of, int index, bool inside,
                                       float weight) {
  if (!inside) return {0.0f, 0.0f};
  const float shift = of.shift[index];
  return {shift == -INFINITY ? 0.0f : __fmul_rn(shift, LOG2_E), of.grad_total[index] * weight};
}

FASTCLIP_DEVICE float weighted_gradient(float acc, float unit, SideWeight row, SideWeight col) {
  const float of_row = exp2_approx(fmaf(acc, unit, -row.shift)) * row.weight;
  return fmaf(exp2_approx(fmaf(acc, unit, -col.shift)), col.weight, of_row);
}

// In place. The warp's part of the tile begins at (row, col) of the matrix; col_weight(c) is the
// SideWeight of the lane's column c.
template <typename Fragment, typename ColWeight>
FASTCLIP_DEVICE void to_gradients(Fragment& logits, const GradientWeights& of,
                                  const LogitMatrix& matrix, int row, int col, bool masked,
                                  ColWeight&& col_weight) {
  const float unit = of.scalars[UNIT], weight = of.scalars[WEIGHT];
  SideWeight row_weights[Fragment::ROWS];
#pragma unroll
  for (int r = 0; r < Fragment::ROWS; ++r) {
    const int i = row + row_of(r);
    row_weights[r] = side_weight(of, i, i < matrix.M, weight);
  }
#pragma unroll
  for (int c = 0; c < Fragment::COLS; ++c) {
    const SideWeight of_col = col_weight(c);
#pragma unroll
    for (int r = 0; r < Fragment::ROWS; ++r)
      logits.at(r, c) = weighted_gradient(logits.at(r, c), unit, row_weights[r], of_col);
  }
  if (!masked) return;
#pragma unroll
  for (int r = 0; r < Fragment::ROWS; ++r) {
    const int i = row + row_of(r);
    const RowMask mask(matrix, i, col + col_of(0));
    const float of_pair = mask.has_pair(Fragment::COLS) ? of.grad_positive[i] * weight : 0.0f;
#pragma unroll
    for (int c = 0; c < Fragment::COLS; ++c) {
      if (place_of(c) == mask.pair) logits.at(r, c) = of_pair;
      // Beyond the matrix the operands are zero, but zero times an overflow is not.
      if (place_of(c) >= mask.end) logits.at(r, c) = 0.0f;
    }
  }
}

FASTCLIP_DEVICE float remainder_of_float16(float x) {
  return (x - __half2float(__float2half_rn(x))) * LOW_SCALE;
}

}  // namespace fastclip::cuda
