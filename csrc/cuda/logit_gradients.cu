// Backward: a block of G from recomputed logits; any GPU.
//
// Math
//   logit_gradients.cuh
// Tiling
//   A block has one tile, in an order whose neighbours share operands in the L2 cache.
// Cost
//   2 M N D FLOPs (three times that for float32-grade products), two exponentials per logit; writes
//   2 bytes per logit and plane.
//   Intervals: 8 bytes read from cache per row and tile, masks where a warp's part has one of them.
// Numerics
//   logit_gradients.cuh
// Limits
//   None.
// Schedule
//   tile_product.cuh; then G goes through its shared memory, so that rows are stored 16 bytes at a
//   time. 49 KiB.
// Source
//   None.
#include "block_tile.cuh"

namespace fastclip::cuda {

__global__ void __launch_bounds__(THREADS, RESIDENT)
    logit_gradients_kernel(const LogitGradients of) {
  char* shared = shared_memory();
  SideWeight* col_weights = reinterpret_cast<SideWeight*>(shared + PRODUCT_BYTES);  // (BLOCK,)
  const TilePosition tile = tile_of_block(of.block);
  const int row = of.block.first_row + tile.row, col = of.block.first_col + tile.col;
  const float weight = of.weights.scalars[WEIGHT];
  if (threadIdx.x < BLOCK) {
    const int j = col + threadIdx.x;
    col_weights[threadIdx.x] = side_weight(of.weights, of.matrix.M + j, j < of.matrix.N, weight);
  }
  const TileWalk walk{tile.row, col, 0, 0, 1};
  PortableFragment G;
  multiply_tiles(of.rows, of.cols, walk, shared,
                 [&](const PortableFragment& logits, int, int) { G = logits; });
  const float unit = of.weights.scalars[UNIT];
  const auto row_weight = [&](int r) {
    const int i = row + warp_row() + row_of(r);
    return side_weight(of.weights, i, i < of.matrix.M, weight);
  };
  to_gradients(G, unit, row_weight, [&](int c) { return col_weights[warp_col() + col_of(c)]; });
  const int own_row = row + warp_row(), own_col = col + warp_col();
  if (needs_masks(of.matrix, row, col, BLOCK, BLOCK) ||
      leaves_out(of.matrix, own_row, own_col, PortableFragment::WARP_ROWS,
                 PortableFragment::WARP_COLS))
    put_pairs(G, of.weights, of.matrix, own_row, own_col);
  store_block(of.block, tile, G, shared);
}

void logit_gradients(const LogitGradients& of, int64_t stream) {
  const dim3 grid(of.block.num_rows / BLOCK * (of.block.num_cols / BLOCK));
  launch(logit_gradients_kernel, "logit_gradients", grid, THREADS,
         PRODUCT_BYTES + BLOCK * static_cast<int>(sizeof(SideWeight)), stream, of);
}

}  // namespace fastclip::cuda
