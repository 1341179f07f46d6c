#pragma once

#include "features.h"
#include "logit_matrix.h"

namespace fastclip::cuda {

// What G is made of, beside the logits.
struct GradientWeights {
  const float* scalars;        // (NUM_SCALARS,)
  const float* shift;          // (M + N,)
  const float* grad_total;     // (M + N,)
  const float* grad_positive;  // (M,)
};

// A part of `weight` G as float16, in whole tiles.
struct GradientBlock {
  void* values;  // (planes, num_rows, num_cols), written
  int32_t planes;
  int32_t num_rows;
  int32_t num_cols;
  int32_t first_row;  // of the block, in the matrix
  int32_t first_col;
};

struct LogitGradients {
  Operand rows;  // of the block's rows only
  Operand cols;
  LogitMatrix matrix;
  GradientWeights weights;
  GradientBlock block;
};

struct KeptGradients {
  const void* kept;  // (kept_rows, kept_stride) int16 or float32
  int32_t kept_is_float32;
  int32_t kept_rows;
  int32_t kept_stride;
  LogitMatrix matrix;
  GradientWeights weights;
  GradientBlock block;
};

void logit_gradients(const LogitGradients& of, int64_t stream);
// On sm_90a.
void hopper_logit_gradients(const LogitGradients& of, int64_t stream);

void kept_gradients(const KeptGradients& of, int64_t stream);

}  // namespace fastclip::cuda
