#pragma once

#include "operands.h"

namespace fastclip::cuda {

constexpr int ROWS_OF_EXTENT = 32;  // that one of the extents below is of

// Extents of features that are not normalised: (2 sides, ceil(N / ROWS_OF_EXTENT), 2).
struct Extents {
  Features rows;  // (N, D)
  Features cols;
  float* values;  // written: the largest element, and the norm of the longest row
};

// Both sides of a square whose pairs are the main diagonal.
struct Pairs {
  Preparation rows;  // `largest` is not looked at
  Preparation cols;
  const float* logit_scale;  // ()
  const float* extents;      // null: normalise each row
  float* scalars;            // (NUM_SCALARS,), written but for those of gradients
  float* positive;           // (N,), written
};

void extents(const Extents& of, int64_t stream);
void pairs(const Pairs& of, int64_t stream);

}  // namespace fastclip::cuda
