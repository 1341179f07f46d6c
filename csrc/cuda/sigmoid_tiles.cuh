// What the sigmoid loss does to a thread's logits, on every architecture.
//
// Math
//   in log2 units, with y_ij = logit_ij + bias for negatives, its negative for pairs, and -inf for
//   what is left out and outside of the matrix:
//     q          = 2^-|y|,  in (0, 1]
//     softplus   = (max(y, 0) + log2(1 + q)) ln 2
//     sigmoid    = 1 / (1 + q) for y >= 0,  q / (1 + q) below
//   LOSS:      row_loss_i = sum of softplus over the thread's columns
//   GRADIENT:  G_ij = g_i sigmoid(y_ij), negated for pairs; in place, times `weight`, and
//              summed like the losses, for d logit_bias
// Numerics
//   log2(1 + q) = q p(q) with p of degree 8: relative error 1.3e-7 down to the smallest q, so that
//   the loss of a model that fits keeps its digits.
//   With G in one pass nothing is known of its largest entry but |G| <= 1: entries below 2^-28 lose
//   digits, below 2^-38 they are lost.
// Source
//   Zhai et al. 2023, arXiv:2303.15343, Algorithm 1. Coefficients: Chebyshev fit on [0, 1].
#pragma once

#include "fragment.cuh"
#include "logit_matrix.cuh"
#include "scalars.h"
#include "sigmoid_tiles.h"

namespace fastclip::cuda {

// log2(1 + q) for q in [0, 1].
FASTCLIP_DEVICE float log2_1p(float q) {
  float p = fmaf(q, 0.007579231634736061f, -0.04268771782517433f);
  p = fmaf(q, p, 0.11305313557386398f);
  p = fmaf(q, p, -0.1972864866256714f);
  p = fmaf(q, p, 0.2757204473018646f);
  p = fmaf(q, p, -0.3584287464618683f);
  p = fmaf(q, p, 0.480695515871048f);
  p = fmaf(q, p, -0.7213403582572937f);
  p = fmaf(q, p, 1.4426950216293335f);
  return q * p;
}

// The warp's part of the tile begins at (row, col) of the matrix; `masked`: the whole tile needs
// masks. sums(r, loss, G) gets those of the thread's row r.
template <bool LOSS, bool GRADIENT, typename Fragment, typename Sums>
FASTCLIP_DEVICE void to_sigmoid(Fragment& logits, const SigmoidTiles& of, int row, int col,
                                bool masked, Sums&& sums) {
  if (!masked) masked = leaves_out(of.matrix, row, col, Fragment::WARP_ROWS, Fragment::WARP_COLS);
  const float unit = of.scalars[UNIT], bias = of.scalars[BIAS];
  const float weight = GRADIENT ? of.scalars[WEIGHT] : 1.0f;
#pragma unroll
  for (int r = 0; r < Fragment::ROWS; ++r) {
    const int i = row + row_of(r);
    RowMask<Fragment::COLS> mask;
    if (masked) mask = RowMask<Fragment::COLS>(of.matrix, i, col + col_of(0));
    float g = 1.0f;
    if (GRADIENT && of.grad_row_loss != nullptr) g = i < of.matrix.M ? of.grad_row_loss[i] : 0.0f;
    float row_loss = 0.0f, row_G = 0.0f, of_pair = 0.0f;
#pragma unroll
    for (int c = 0; c < Fragment::COLS; ++c) logits.at(r, c) = fmaf(logits.at(r, c), unit, bias);
    if (masked) {
#pragma unroll
      for (int c = 0; c < Fragment::COLS; ++c) {
        // Softplus and sigmoid of -inf are 0.
        if (!mask.is_negative(c)) logits.at(r, c) = mask.is_pair(c) ? -logits.at(r, c) : -INFINITY;
      }
    }
#pragma unroll
    for (int c = 0; c < Fragment::COLS; ++c) {
      const float y = logits.at(r, c), q = exp2_approx(-fabsf(y));
      if constexpr (LOSS) row_loss += fmaxf(y, 0.0f) + log2_1p(q);
      if constexpr (GRADIENT) {
        const float one = reciprocal_approx(1.0f + q);
        const float G = (y >= 0.0f ? one : q * one) * g;
        row_G += G;
        logits.at(r, c) = G * weight;
      }
    }
    if (GRADIENT && masked) {
#pragma unroll
      for (int c = 0; c < Fragment::COLS; ++c) {
        if (!mask.is_pair(c)) continue;
        of_pair = logits.at(r, c);
        logits.at(r, c) = -of_pair;
      }
      row_G -= 2.0f * (of_pair / weight);  // weight is a power of two
    }
    sums(r, row_loss * LN_2, row_G);
    // Rows one after the other: interleaved, they take more registers than there are.
    asm volatile("" ::: "memory");
  }
}

}  // namespace fastclip::cuda
