// What siglip_sum does to a tile of logits: forward, backward, and both at once.
//
// With l = logits + bias; row i has its pair in column first_pair + i, if the tile has that column:
//   row_loss_i = sum_j softplus(l_ij),  softplus(-l_ij) for the pair
//   p_ij       = row_weight_i sigmoid(l_ij),  -row_weight_i sigmoid(-l_ij) for the pair
//   softplus(l) = max(l, 0) + log1p(e^-|l|): relative accuracy for l far below 0. What is left out
//   holds -inf, whose softplus and sigmoid are 0.
// |p| < 2^-100 is written as 0, see lse_epilogue.h. Both at once share e^-|l| and have no weights.
#pragma once

#include <cstdint>

namespace fastclip::cpu {

void siglip_tile(const float* logits, int64_t m, int64_t n, float bias, int64_t first_pair,
                 float* row_loss);
void siglip_tile(const double* logits, int64_t m, int64_t n, double bias, int64_t first_pair,
                 double* row_loss);

// Returns the sum of p. `first_pair` is the column of row 0's pair, which may lie outside the tile.
double siglip_tile_backward(const float* logits, int64_t m, int64_t n, float bias,
                            int64_t first_pair, const float* row_weight, float* p);
double siglip_tile_backward(const double* logits, int64_t m, int64_t n, double bias,
                            int64_t first_pair, const double* row_weight, double* p);

struct SiglipSums {
  double loss = 0.0, gradient = 0.0;  // of softplus, and of p
};

// Overwrites the logits with p.
SiglipSums siglip_tile_at_once(float* p, int64_t m, int64_t n, float bias, int64_t first_pair);
SiglipSums siglip_tile_at_once(double* p, int64_t m, int64_t n, double bias, int64_t first_pair);

}  // namespace fastclip::cpu
