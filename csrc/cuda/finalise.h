#pragma once

#include "features.h"
#include "logit_matrix.h"

namespace fastclip::cuda {

// Of rows; of columns with both operands swapped and the matrix transposed: its columns have been
// rows, and each of them leaves out an interval of rows.
struct Finalisation {
  Operand rows;
  Operand cols;
  LogitMatrix matrix;
  const float* scalars;   // (NUM_SCALARS,)
  const float* partials;  // (num_partials, M)
  int32_t num_partials;
  const float* maximum;      // (M,) in log2 units; null if any shift will do
  float* shift;              // (M,), written
  float* total;              // (M,), written
  Excluded excluded_rows{};  // (N,), of columns; those of rows are in `matrix`
};

// Rows and columns of a square in one launch.
struct Finalisations {
  Finalisation sides[2];
};

void finalise(const Finalisation& of, int64_t stream);
void finalise_both(const Finalisations& of, int64_t stream);

}  // namespace fastclip::cuda
