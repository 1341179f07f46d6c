// G, the gradient of the loss w.r.t. the logits, from a thread's logits; on every architecture.
//
// Math
//   G_ij = g_i 2^(logit_ij - shift_i) + g'_j 2^(logit_ij - shift'_j)   for negatives
//   G_ij = h_i                                                       for pairs
//   G_ij = 0                                                         for what is left out
//   with g, g', h the gradients w.r.t. totals and positives. What is stored is `weight` G
//   (scalars.cu), in one plane or two:
//     high = fp16(weight G);  low = fp16(2^11 (weight G - high))
// Numerics
//   Two exponentials: each is at most about 1 whatever the data, where one with factors
//   2^(shift - shift_i) could overflow; Hopper takes one where it cannot (hopper/tile_sides.cuh). A
//   pair is written from its vector, never as p - 1.
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
  float shift;   // in log2 units; inf where its exponentials are nothing
  float weight;  // of its exponential
};

// Without negatives, whose shift is -inf, nothing.
FASTCLIP_DEVICE SideWeight side_weight(float shift, float gradient, float weight) {
  const bool there = shift != -INFINITY;
  return {there ? __fmul_rn(shift, LOG2_E) : INFINITY, there ? gradient * weight : 0.0f};
}

// `index` of (M + N,); outside of the matrix, nothing. No branch: the loads of several rows and
// columns are on their way together.
FASTCLIP_DEVICE SideWeight side_weight(const GradientWeights& of, int index, bool inside,
                                       float weight) {
  const int safe = inside ? index : 0;
  const float shift = of.shift[safe], gradient = of.grad_total[safe];
  return side_weight(inside ? shift : -INFINITY, gradient, weight);
}

FASTCLIP_DEVICE float weighted_gradient(float acc, float unit, SideWeight row, SideWeight col) {
  const float of_row = exp2_approx(fmaf(acc, unit, -row.shift)) * row.weight;
  return fmaf(exp2_approx(fmaf(acc, unit, -col.shift)), col.weight, of_row);
}

// In place. row_weight(r) and col_weight(c) are the SideWeights of the lane's row r and column c.
template <typename Fragment, typename RowWeight, typename ColWeight>
FASTCLIP_DEVICE void to_gradients(Fragment& logits, float unit, RowWeight&& row_weight,
                                  ColWeight&& col_weight) {
  SideWeight row_weights[Fragment::ROWS];
#pragma unroll
  for (int r = 0; r < Fragment::ROWS; ++r) row_weights[r] = row_weight(r);
#pragma unroll
  for (int c = 0; c < Fragment::COLS; ++c) {
    const SideWeight of_col = col_weight(c);
#pragma unroll
    for (int r = 0; r < Fragment::ROWS; ++r)
      logits.at(r, c) = weighted_gradient(logits.at(r, c), unit, row_weights[r], of_col);
  }
}

// The same where all shifts are equal: one exponential serves both.
template <typename Fragment, typename RowWeight, typename ColWeight>
FASTCLIP_DEVICE void to_gradients_of_one_shift(Fragment& logits, float unit, RowWeight&& row_weight,
                                               ColWeight&& col_weight) {
  const float shift = row_weight(0).shift;
  float row_weights[Fragment::ROWS];
#pragma unroll
  for (int r = 0; r < Fragment::ROWS; ++r) row_weights[r] = row_weight(r).weight;
#pragma unroll
  for (int c = 0; c < Fragment::COLS; ++c) {
    const float of_col = col_weight(c).weight;
#pragma unroll
    for (int r = 0; r < Fragment::ROWS; ++r)
      logits.at(r, c) =
          exp2_approx(fmaf(logits.at(r, c), unit, -shift)) * (row_weights[r] + of_col);
  }
}

// The entries of pairs, and nothing where an entry is left out or outside of the matrix. The warp's
// part of the tile begins at (row, col) of the matrix.
template <typename Fragment>
FASTCLIP_DEVICE void put_pairs(Fragment& logits, const GradientWeights& of,
                               const LogitMatrix& matrix, int row, int col) {
  const float weight = of.scalars[WEIGHT];
#pragma unroll
  for (int r = 0; r < Fragment::ROWS; ++r) {
    const int i = row + row_of(r);
    const RowMask<Fragment::COLS> mask(matrix, i, col + col_of(0));
    const float of_pair = mask.has_pair() ? of.grad_positive[i] * weight : 0.0f;
#pragma unroll
    for (int c = 0; c < Fragment::COLS; ++c) {
      // Beyond the matrix the operands are zero, but zero times an overflow is not.
      if (!mask.is_negative(c)) logits.at(r, c) = mask.is_pair(c) ? of_pair : 0.0f;
    }
  }
}

FASTCLIP_DEVICE float remainder_of_float16(float x) {
  return (x - __half2float(__float2half_rn(x))) * LOW_SCALE;
}

}  // namespace fastclip::cuda
