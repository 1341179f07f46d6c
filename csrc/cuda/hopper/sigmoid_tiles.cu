// Tiles of the sigmoid primitive: row losses, a block of G, or both in one pass; Hopper.
//
// Math
//   ../sigmoid_tiles.cuh, then sums over each tile's columns
// Tiling
//   A cluster has every so many-th tile of 2 x 128 rows and 256 columns, in an order whose
//   neighbours share operands in the L2 cache; one wave of clusters walks all of them.
// Cost
//   2 M N D FLOPs (three times that for float32-grade products), one exponential, one reciprocal
//   and a polynomial per logit; writes 2 bytes per logit and plane.
//   Intervals: 8 bytes read from cache per row and tile, masks where a warp's part has one of them.
// Numerics
//   ../sigmoid_tiles.cuh
// Limits
//   sm_90a.
// Schedule
//   product.cuh with 3 stages, 144 KiB. A row of a tile belongs to four lanes: two shuffles sum it.
//   G goes through 32 KiB of each warpgroup to the copy engine.
// Source
//   ../sigmoid_tiles.cuh
#include "../sigmoid_tiles.cuh"

#include "block_tiles.cuh"

namespace fastclip::cuda::hopper {

namespace {

struct Shared {
  Ring<BLOCK_STAGES> ring;
  Stored stored[CONSUMERS];
};

struct Parameters {
  Factors factors;
  StoredBlock block;
  SigmoidTiles of;
};

template <bool LOSS, bool GRADIENT>
__global__ void __launch_bounds__(THREADS, 1)
    hopper_sigmoid_tiles_kernel(const __grid_constant__ Parameters parameters) {
#if FASTCLIP_HOPPER
  const SigmoidTiles& of = parameters.of;
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const GradientBlock& block = of.block;
  const ClusterTiles tiles(block);
  divide_labour(parameters.factors, shared.ring, tiles.count(), tiles, [&] {
    const int block_row = rank_in_cluster() * BLOCK_ROWS;
    multiply_tiles(parameters.factors, shared.ring, tiles.count(), [&](HopperFragment& G, int i) {
      const TilePosition tile = tiles(i);
      const int row = tile.row + block_row, block_col = tile.col - block.first_col;
      const int64_t partial = int64_t{block_col / BLOCK_COLS} * block.num_rows + row + warp_row();
      const auto put = [&](int r, float loss, float sum_of_G) {
        if constexpr (LOSS) loss = across_row(loss, Sum());
        if constexpr (GRADIENT) sum_of_G = across_row(sum_of_G, Sum());
        if (threadIdx.x % 4 != 0) return;
        if constexpr (LOSS) of.row_partial[partial + row_of(r)] = loss;
        if constexpr (GRADIENT) of.bias_partial[partial + row_of(r)] = sum_of_G;
      };
      const int matrix_row = block.first_row + row;
      const bool masked = needs_masks(of.matrix, matrix_row, tile.col, BLOCK_ROWS, BLOCK_COLS);
      to_sigmoid<LOSS, GRADIENT>(G, of, matrix_row + warp_row(), tile.col, masked, put);
      if constexpr (GRADIENT)
        store_block(parameters.block, row + group() * GROUP_ROWS, block_col, G,
                    shared.stored[group()]);
    });
    if constexpr (GRADIENT) finish_stores();
  });
#endif
}

}  // namespace

}  // namespace fastclip::cuda::hopper

namespace fastclip::cuda {

void hopper_sigmoid_tiles(const SigmoidTiles& of, bool with_loss, int64_t stream) {
  using namespace hopper;
  const Parameters parameters{factors_of(of.rows, of.cols), stored_block(of.block), of};
  const bool with_gradient = of.block.values != nullptr;
  const auto kernel = !with_gradient ? hopper_sigmoid_tiles_kernel<true, false>
                      : with_loss    ? hopper_sigmoid_tiles_kernel<true, true>
                                     : hopper_sigmoid_tiles_kernel<false, true>;
  launch(kernel, "hopper_sigmoid_tiles", grid_of(of.block), THREADS, sizeof(Shared), stream,
         parameters, CLUSTER);
}

}  // namespace fastclip::cuda
