// Where a thread's accumulators stand in a tile of logits.
//
// mma.m16n8k16 and wgmma.m64nNk16 leave their results alike: a warp has M_TILES x N_TILES squares
// of 16 x 8, and of each of them, with g = lane / 4 and t = lane % 4, a lane has
//     acc[0], acc[1]   row g,      columns 2t, 2t + 1
//     acc[2], acc[3]   row g + 8,  columns 2t, 2t + 1
// so that what is done to a tile of logits is written once for both. A lane has ROWS rows and COLS
// columns; its row r is 16 (r / 2) + 8 (r % 2) + g, its column c is 8 (c / 2) + 2t + c % 2.
#pragma once

#include "device/device.cuh"

namespace fastclip::cuda {

template <int M_TILES_, int N_TILES_>
struct Fragment {
  static constexpr int M_TILES = M_TILES_, N_TILES = N_TILES_;
  static constexpr int ROWS = 2 * M_TILES, COLS = 2 * N_TILES;
  static constexpr int WARP_ROWS = 16 * M_TILES, WARP_COLS = 8 * N_TILES;

  float acc[M_TILES][N_TILES][4];

  FASTCLIP_DEVICE float& at(int r, int c) { return acc[r / 2][c / 2][r % 2 * 2 + c % 2]; }
  FASTCLIP_DEVICE float at(int r, int c) const { return acc[r / 2][c / 2][r % 2 * 2 + c % 2]; }

  FASTCLIP_DEVICE void clear() {
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
      for (int c = 0; c < COLS; ++c) at(r, c) = 0.0f;
  }
};

// A lane's column c, counted from its first one.
constexpr FASTCLIP_DEVICE int place_of(int c) { return c / 2 * 8 + c % 2; }

// Relative to the warp's part of the tile.
FASTCLIP_DEVICE int row_of(int r) { return r / 2 * 16 + r % 2 * 8 + threadIdx.x % WARP / 4; }
FASTCLIP_DEVICE int col_of(int c) { return place_of(c) + threadIdx.x % 4 * 2; }

// The four lanes that share a row agree on f of their values; the eight that share a column.
template <typename F>
FASTCLIP_DEVICE float across_row(float value, F f) {
  value = f(value, shuffle_xor(value, 1));
  return f(value, shuffle_xor(value, 2));
}
template <typename F>
FASTCLIP_DEVICE float across_col(float value, F f) {
  value = f(value, shuffle_xor(value, 4));
  value = f(value, shuffle_xor(value, 8));
  return f(value, shuffle_xor(value, 16));
}

struct Sum {
  FASTCLIP_DEVICE float operator()(float a, float b) const { return a + b; }
};

}  // namespace fastclip::cuda
