#pragma once

#include "features.h"
#include "logit_gradients.h"
#include "logit_matrix.h"

namespace fastclip::cuda {

// A region of the matrix, in whole tiles: that of `block`, whether it is written or not.
struct SigmoidTiles {
  Operand rows;  // of the region's rows only
  Operand cols;
  LogitMatrix matrix;
  const float* scalars;        // (NUM_SCALARS,)
  const float* grad_row_loss;  // (M,), g; null for ones
  float* row_partial;          // (column tiles, num_rows), written: losses
  float* bias_partial;         // (column tiles, num_rows), written: sums of G
  GradientBlock block;         // `values` null where G is not wanted
};

void sigmoid_tiles(const SigmoidTiles& of, bool with_loss, int64_t stream);

// On sm_90a: tiles of 256 columns.
void hopper_sigmoid_tiles(const SigmoidTiles& of, bool with_loss, int64_t stream);

}  // namespace fastclip::cuda
