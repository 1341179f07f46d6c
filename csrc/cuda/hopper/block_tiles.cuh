// The tiles of a block of G on Hopper: which ones a cluster has, and how they are stored.
#pragma once

#include "../logit_gradients.cuh"
#include "product.cuh"

namespace fastclip::cuda::hopper {

constexpr int GROUP = 8;  // tiles of rows that are walked together: they share columns in L2
constexpr int BLOCK_STAGES = 3;
constexpr int STORED_ROWS = GROUP_ROWS;  // of a box; a warpgroup stores four of them, side by side
constexpr int STORED_BOX_BYTES = STORED_ROWS * BOX_COLS * 2;
constexpr int STORED_BOXES = BLOCK_COLS / BOX_COLS;

// What a kernel is given of the block that it writes.
struct StoredBlock {
  TensorMap map;  // of (planes * num_rows, num_cols)
  GradientBlock of;
};

inline StoredBlock stored_block(const GradientBlock& of) {
  if (of.values == nullptr) return {{}, of};
  return {tensor_map(of.values, int64_t{of.planes} * of.num_rows, of.num_cols, STORED_ROWS), of};
}

// Of the clusters that are there, every one has each num_clusters-th tile.
class ClusterTiles {
 public:
  FASTCLIP_DEVICE explicit ClusterTiles(const GradientBlock& of)
      : num_m_(of.num_rows / TILE_ROWS),
        num_n_(of.num_cols / BLOCK_COLS),
        first_col_(of.first_col) {}

  FASTCLIP_DEVICE int count() const { return (num_m_ * num_n_ - first() + step() - 1) / step(); }

  // As operands are given: the rows are those of the block of G, the columns all.
  FASTCLIP_DEVICE TilePosition operator()(int i) const {
    const int index = first() + i * step();
    const int width = GROUP * num_n_, first_m = index / width * GROUP, within = index % width;
    const int group = min(num_m_ - first_m, GROUP);
    return {(first_m + within % group) * TILE_ROWS, first_col_ + within / group * BLOCK_COLS};
  }

 private:
  static FASTCLIP_DEVICE int first() { return blockIdx.x / CLUSTER; }
  static FASTCLIP_DEVICE int step() { return gridDim.x / CLUSTER; }

  int num_m_, num_n_, first_col_;
};

// One wave of clusters, or fewer.
inline dim3 grid_of(const GradientBlock& of) {
  const int num_tiles = of.num_rows / TILE_ROWS * (of.num_cols / BLOCK_COLS);
  return dim3(CLUSTER * min(num_tiles, multiprocessors() / CLUSTER));
}

// A warpgroup's place for its 64 x 256 numbers, until the copy engine has read them.
struct alignas(1024) Stored {
  char boxes[STORED_BOXES][STORED_BOX_BYTES];
};

// All threads of the warpgroup.
FASTCLIP_DEVICE void synchronize_group() { synchronize(1 + group(), WARPGROUP); }

FASTCLIP_DEVICE void store_plane(const StoredBlock& block, int plane, int row, int col,
                                 const HopperFragment& values, Stored& stored) {
  const bool storing = thread_of_group() == 0;
  if (storing) wait_for_stores_to_read();
  synchronize_group();
  const int lane = threadIdx.x % WARP;
  // Lanes 8i to 8i + 7 give the rows of matrix i: upper and lower eight rows of two squares.
  const int matrix_row = thread_of_group() / WARP * 16 + lane / 8 % 2 * 8 + lane % 8;
#pragma unroll
  for (int n = 0; n < HopperFragment::N_TILES; n += 2) {
    const int chunk = n % 8 + lane / 16;
    const float (&left)[4] = values.acc[0][n];
    const float (&right)[4] = values.acc[0][n + 1];
    store_matrices(stored.boxes[n / 8] + matrix_row * BOX_COLS * 2 + (chunk ^ matrix_row % 8) * 16,
                   packed_float16(left[0], left[1]), packed_float16(left[2], left[3]),
                   packed_float16(right[0], right[1]), packed_float16(right[2], right[3]));
  }
  publish_to_stores();
  synchronize_group();
  if (!storing) return;
  for (int box = 0; box < STORED_BOXES; ++box)
    store_box(block.map, stored.boxes[box], plane * block.of.num_rows + row, col + box * BOX_COLS);
  commit_stores();
}

// `values`: weight G, destroyed; of the warpgroup's rows from `row` on, in the block.
FASTCLIP_DEVICE void store_block(const StoredBlock& block, int row, int col, HopperFragment& values,
                                 Stored& stored) {
  store_plane(block, 0, row, col, values, stored);
  if (block.of.planes == 1) return;
#pragma unroll
  for (int r = 0; r < HopperFragment::ROWS; ++r)
#pragma unroll
    for (int c = 0; c < HopperFragment::COLS; ++c)
      values.at(r, c) = remainder_of_float16(values.at(r, c));
  store_plane(block, 1, row, col, values, stored);
}

// Before the block ends.
FASTCLIP_DEVICE void finish_stores() {
  if (thread_of_group() == 0) wait_for_stores_to_read();
}

}  // namespace fastclip::cuda::hopper
