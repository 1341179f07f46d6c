// The matrix of logits around a tile, as in fastclip/backends/gpu/logit_matrix.py.
#pragma once

#include <cstdint>

namespace fastclip::cuda {

struct LogitMatrix {
  int32_t M;
  int32_t N;
  int64_t pair_offset;  // the pair of row i is in column i + pair_offset, if there is such a column
};

}  // namespace fastclip::cuda
