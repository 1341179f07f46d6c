// The two sets of matrix kernels: those for any GPU, and Hopper's.
#pragma once

#include <cstdint>

#include "logit_gradients.h"
#include "negative_sums.h"
#include "sigmoid_tiles.h"

namespace fastclip::cuda {

// BLOCK: rows and columns of a tile; STRIP_PARTIALS: partials of columns that a strip writes.
struct Portable {
  static constexpr auto NEGATIVE_SUMS = negative_sums;
  static constexpr auto LOGIT_GRADIENTS = logit_gradients;
  static constexpr auto SIGMOID_TILES = sigmoid_tiles;
  static constexpr int64_t BLOCK = 128, STRIP_PARTIALS = 1;
};

struct Hopper {
  static constexpr auto NEGATIVE_SUMS = hopper_negative_sums;
  static constexpr auto LOGIT_GRADIENTS = hopper_logit_gradients;
  static constexpr auto SIGMOID_TILES = hopper_sigmoid_tiles;
  static constexpr int64_t BLOCK = 256, STRIP_PARTIALS = 2;
};

}  // namespace fastclip::cuda
