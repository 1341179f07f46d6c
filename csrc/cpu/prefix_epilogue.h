// What prefix_lse does to a tile of logits beside lse_epilogue.h.
//
// A prefix and the next differ by a block of columns, and by their norms: unit rows of the shorter
// one are larger by row_ratio, the norm of the shorter prefix over that of the longer one, at most 1.
//
// Forward
//   out_ij = row_ratio_i col_ratio_j s_ij: the part of the next prefix's logits that is known.
//
// Backward, from the longest prefix to the shortest
//   p_ij   = row_weight_i exp(s_ij - row_max_i) + col_weight_j exp(s_ij - col_max_j)
//   out_ij = p_ij + later_scale row_ratio_i col_ratio_j later_ij, `later` being the next prefix's;
//   row_dot_i = sum_j p_ij s_ij, col_dot_j = sum_i p_ij s_ij, without the pairs, whose s is -inf.
//   |out| < 2^-100 is written as 0, as in lse_epilogue.h. `out` may be the memory of s.
#pragma once

#include <cstdint>

namespace fastclip::cpu {

template <typename T>
struct NextPrefix {
  const T* gradients;  // m x n, of the next prefix; null for the longest
  const T* row_ratio;  // (m)
  const T* col_ratio;  // (n)
  T scale;
};

void rescale_tile(const float* logits, int64_t m, int64_t n, const float* row_ratio,
                  const float* col_ratio, float* out);
void rescale_tile(const double* logits, int64_t m, int64_t n, const double* row_ratio,
                  const double* col_ratio, double* out);

void prefix_tile_backward(const float* logits, int64_t m, int64_t n, const float* row_weight,
                          const float* row_max, const float* col_weight, const float* col_max,
                          const NextPrefix<float>& next, float* out, float* row_dot,
                          float* col_dot);
void prefix_tile_backward(const double* logits, int64_t m, int64_t n, const double* row_weight,
                          const double* row_max, const double* col_weight, const double* col_max,
                          const NextPrefix<double>& next, double* out, double* row_dot,
                          double* col_dot);

}  // namespace fastclip::cpu
