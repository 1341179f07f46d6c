// What contrastive_lse does to a tile of logits, forward and backward.
//
// Forward, on a tile of m x n logits that holds -inf for pairs and what is left out
//   row_max_i = max_j s_ij,  row_sum_i = sum_j exp(s_ij - row_max_i),  and alike for columns.
//   True maxima on both sides cost a second exponential per logit, 1 % of the product at D = 512,
//   and make the result exact for any finite logits. A row without negatives: -inf and 0.
//
// Backward
//   p_ij = row_weight_i exp(s_ij - row_max_i) + col_weight_j exp(s_ij - col_max_j)
//   Weights are at most 1 in magnitude. |p| < 2^-100 is written as 0: it reaches no sum in float,
//   and subnormal factors would make the products that follow up to 70 times slower.
#pragma once

#include <cstdint>

namespace fastclip::cpu {

void lse_tile(const float* logits, int64_t m, int64_t n, float* row_max, float* row_sum,
              float* col_max, float* col_sum);
void lse_tile(const double* logits, int64_t m, int64_t n, double* row_max, double* row_sum,
              double* col_max, double* col_sum);

void lse_tile_backward(const float* logits, int64_t m, int64_t n, const float* row_weight,
                       const float* row_max, const float* col_weight, const float* col_max,
                       float* p);
void lse_tile_backward(const double* logits, int64_t m, int64_t n, const double* row_weight,
                       const double* row_max, const double* col_weight, const double* col_max,
                       double* p);

}  // namespace fastclip::cpu
