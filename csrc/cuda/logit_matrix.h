// The matrix of logits around a tile, as in fastclip/backends/gpu/logit_matrix.py.
#pragma once

#include <cstdint>

namespace fastclip::cuda {

// An interval of columns to each row, any that fit in 32 bits: empty, or beyond the matrix, too.
// Null where there are none.
struct Excluded {
  const int32_t* begin = nullptr;  // (M,)
  const int32_t* end = nullptr;    // (M,)
};

struct LogitMatrix {
  int32_t M;
  int32_t N;
  int64_t pair_offset;  // the pair of row i is in column i + pair_offset, if there is such a column
  Excluded excluded{};  // that are no negatives; a pair in there stays a pair
};

}  // namespace fastclip::cuda
