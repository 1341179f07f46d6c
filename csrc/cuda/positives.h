#pragma once

#include "features.h"
#include "logit_matrix.h"

namespace fastclip::cuda {

struct Positives {
  Operand rows;
  Operand cols;
  LogitMatrix matrix;
  const float* scalars;  // (NUM_SCALARS,)
  float* positive;       // (M,), written
};

void positives(const Positives& of, int64_t stream);

}  // namespace fastclip::cuda
