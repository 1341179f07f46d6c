// The matrix of logits around a tile.
#pragma once

#include <cstdint>

namespace fastclip::cuda {

struct LogitMatrix {
  int32_t M;
  int32_t N;
  int64_t positive_offset;  // the pair of row i is in column i + positive_offset, if there is one
};

}  // namespace fastclip::cuda
