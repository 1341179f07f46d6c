// Tiles of the sigmoid primitive: row losses, a block of G, or both in one pass; any GPU.
//
// Math
//   sigmoid_tiles.cuh, then sums over each tile's columns
// Tiling
//   A block has one tile, in an order whose neighbours share operands in the L2 cache.
// Cost
//   2 M N D FLOPs (three times that for float32-grade products), one exponential, one reciprocal
//   and a polynomial per logit; writes 2 bytes per logit and plane.
//   Intervals: 8 bytes read from cache per row and tile, masks where a warp's part has one of them.
// Numerics
//   sigmoid_tiles.cuh
// Limits
//   None.
// Schedule
//   tile_product.cuh; then sums and G go through its shared memory. 48 KiB.
// Source
//   sigmoid_tiles.cuh
#include "sigmoid_tiles.cuh"

#include "block_tile.cuh"
#include "tile_reduction.cuh"

namespace fastclip::cuda {

template <bool LOSS, bool GRADIENT>
__global__ void __launch_bounds__(THREADS, RESIDENT) sigmoid_tiles_kernel(const SigmoidTiles of) {
  char* shared = shared_memory();
  const TilePosition tile = tile_of_block(of.block);
  const int row = of.block.first_row + tile.row, col = of.block.first_col + tile.col;
  const TileWalk walk{tile.row, col, 0, 0, 1};
  PortableFragment G;
  multiply_tiles(of.rows, of.cols, walk, shared,
                 [&](const PortableFragment& logits, int, int) { G = logits; });

  float* losses = reinterpret_cast<float*>(shared);  // (WARPS_N, BLOCK)
  float* sums_of_G = losses + WARPS_N * BLOCK;       // likewise
  const auto put = [&](int r, float loss, float sum_of_G) {
    if constexpr (LOSS) put_row(r, loss, losses, Sum());
    if constexpr (GRADIENT) put_row(r, sum_of_G, sums_of_G, Sum());
  };
  const bool masked = needs_masks(of.matrix, row, col, BLOCK, BLOCK);
  to_sigmoid<LOSS, GRADIENT>(G, of, row + warp_row(), col + warp_col(), masked, put);
  __syncthreads();

  const int64_t partial = int64_t{tile.col / BLOCK} * of.block.num_rows + tile.row;
  if constexpr (LOSS)
    collect_rows(losses, Sum(), [&](int i, float x) { of.row_partial[partial + i] = x; });
  if constexpr (GRADIENT) {
    collect_rows(sums_of_G, Sum(), [&](int i, float x) { of.bias_partial[partial + i] = x; });
    __syncthreads();
    store_block(of.block, tile, G, shared);
  }
}

void sigmoid_tiles(const SigmoidTiles& of, bool with_loss, int64_t stream) {
  const dim3 grid(of.block.num_rows / BLOCK * (of.block.num_cols / BLOCK));
  const bool with_gradient = of.block.values != nullptr;
  const auto kernel = !with_gradient ? sigmoid_tiles_kernel<true, false>
                      : with_loss    ? sigmoid_tiles_kernel<true, true>
                                     : sigmoid_tiles_kernel<false, true>;
  launch(kernel, "sigmoid_tiles", grid, THREADS, PRODUCT_BYTES, stream, of);
}

}  // namespace fastclip::cuda
