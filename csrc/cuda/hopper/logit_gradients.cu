// Backward: a block of G from recomputed logits; Hopper.
//
// Math
//   ../logit_gradients.cuh
// Tiling
//   A cluster has every so many-th tile of 2 x 128 rows and 256 columns, in an order whose
//   neighbours share operands in the L2 cache; one wave of clusters walks all of them.
// Cost
//   2 M N D FLOPs (three times that for float32-grade products), an exponential per logit, or two
//   (tile_sides.cuh); writes 2 bytes per logit and plane.
//   Intervals: 8 bytes read from cache per row and tile, masks where a block's part has one of them.
// Numerics
//   ../logit_gradients.cuh
// Limits
//   sm_90a.
// Schedule
//   product.cuh with 3 stages, 144 KiB. What belongs to rows and columns comes through two buffers of
//   3 KiB (tile_sides.cuh). G goes through 32 KiB of each warpgroup to the copy engine, which stores
//   while the next tile is multiplied.
// Source
//   None.
#include "tile_sides.cuh"

namespace fastclip::cuda::hopper {

namespace {

struct Shared {
  Ring<BLOCK_STAGES> ring;
  Stored stored[CONSUMERS];
  SideRing sides;
};

struct Parameters {
  Factors factors;
  StoredBlock block;
  LogitMatrix matrix;
  GradientWeights weights;
};

__global__ void __launch_bounds__(THREADS, 1)
    hopper_logit_gradients_kernel(const __grid_constant__ Parameters of) {
#if FASTCLIP_HOPPER
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const GradientBlock& block = of.block.of;
  const ClusterTiles tiles(block);
  const auto fetch = [&] { fetch_all_sides(of.weights, of.matrix, block, tiles, shared.sides); };
  const auto consume = [&] {
    const int block_row = rank_in_cluster() * BLOCK_ROWS;
    multiply_tiles(of.factors, shared.ring, tiles.count(), [&](HopperFragment& G, int i) {
      const TileSides& sides = shared.sides.buffers[i % BUFFERS];
      wait(shared.sides.full[i % BUFFERS], i / BUFFERS % 2);
      const float unit = sides.unit;
      const auto row_weight = [&](int r) { return sides.of[warp_row() + row_of(r)]; };
      const auto col_weight = [&](int c) { return sides.of[BLOCK_ROWS + col_of(c)]; };
      if (sides.one_shift)
        to_gradients_of_one_shift(G, unit, row_weight, col_weight);
      else
        to_gradients(G, unit, row_weight, col_weight);
      const int row = sides.tile.row + block_row, col = sides.tile.col;  // row: of the block of G
      const bool masked = sides.masked;
      __syncwarp();
      if (threadIdx.x % WARP == 0) arrive(shared.sides.empty[i % BUFFERS]);
      if (masked) put_pairs(G, of.weights, of.matrix, block.first_row + row + warp_row(), col);
      store_block(of.block, row + group() * GROUP_ROWS, col - block.first_col, G,
                  shared.stored[group()]);
    });
    finish_stores();
  };
  shared.sides.initialize();
  divide_labour(of.factors, shared.ring, tiles.count(), tiles, consume, fetch);
#endif
}

}  // namespace

}  // namespace fastclip::cuda::hopper

namespace fastclip::cuda {

void hopper_logit_gradients(const LogitGradients& of, int64_t stream) {
  using namespace hopper;
  const Parameters parameters{factors_of(of.rows, of.cols), stored_block(of.block), of.matrix,
                              of.weights};
  launch(hopper_logit_gradients_kernel, "hopper_logit_gradients", grid_of(of.block), THREADS,
         sizeof(Shared), stream, parameters, CLUSTER);
}

}  // namespace fastclip::cuda
