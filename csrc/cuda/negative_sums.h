#pragma once

#include "features.h"
#include "logit_matrix.h"

namespace fastclip::cuda {

enum class Kept : int32_t { NOTHING, INT16, FLOAT32 };

// One panel of column tiles, in strips of row tiles.
struct NegativeSums {
  Operand rows;
  Operand cols;
  LogitMatrix matrix;
  const float* scalars;  // (NUM_SCALARS,)
  float* row_partial;    // (column tiles of the panel, M), written
  float* col_partial;    // (strips times partials of a strip, N), written
  float* positive;       // (M,), written where a row has a pair, beside maxima
  void* kept;            // (kept_rows, kept_stride), written
  int32_t kept_rows;
  int32_t kept_stride;
  int32_t first_col_tile;  // of the panel
  int32_t num_col_tiles;
  int32_t strip_tiles;
  int32_t num_strips;
};

void negative_sums(const NegativeSums& of, bool maximum, Kept kept, int64_t stream);

// On sm_90a: tiles of 256 x 256, two partials of columns to a strip.
void hopper_negative_sums(const NegativeSums& of, bool maximum, Kept kept, int64_t stream);

}  // namespace fastclip::cuda
