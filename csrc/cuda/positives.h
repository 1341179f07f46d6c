#pragma once

#include "features.h"

namespace fastclip::cuda {

struct Positives {
  Operand rows;          // of M rows
  Operand cols;          // of N rows
  const float* scalars;  // (NUM_SCALARS,)
  float* positive;       // (M,), written
  int64_t positive_offset;
};

void positives(const Positives& of, int64_t stream);

}  // namespace fastclip::cuda
