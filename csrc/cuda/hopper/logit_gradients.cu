// Backward: a block of G from recomputed logits; Hopper.
//
// Math
//   ../logit_gradients.cuh
// Tiling
//   A cluster has every so many-th tile of 2 x 128 rows and 256 columns, in an order whose
//   neighbours share operands in the L2 cache; one wave of clusters walks all of them.
// Cost
//   2 M N D FLOPs (three times that for float32-grade products), two exponentials per logit; writes
//   2 bytes per logit and plane.
// Numerics
//   ../logit_gradients.cuh
// Limits
//   sm_90a.
// Schedule
//   product.cuh with 3 stages, 144 KiB. What belongs to columns lies in shared memory, 2 KiB for
//   each warpgroup, since a thread has 64 columns. G goes through 32 KiB of each warpgroup to the
//   copy engine, which stores while the next tile is multiplied.
// Source
//   None.
#include "block_tiles.cuh"

namespace fastclip::cuda::hopper {

namespace {

struct Shared {
  Ring<BLOCK_STAGES> ring;
  Stored stored[CONSUMERS];
  SideWeight col_weights[CONSUMERS][BLOCK_COLS];
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
  divide_labour(of.factors, shared.ring, tiles.count(), tiles, [&] {
    SideWeight* col_weights = shared.col_weights[group()];
    const float weight = of.weights.scalars[WEIGHT];
    const int block_row = rank_in_cluster() * BLOCK_ROWS;
    multiply_tiles(
        of.factors, shared.ring, tiles.count(), tiles, [&](HopperFragment& G, TilePosition tile) {
          for (int c = thread_of_group(); c < BLOCK_COLS; c += WARPGROUP) {
            const int j = tile.col + c;
            col_weights[c] = side_weight(of.weights, of.matrix.M + j, j < of.matrix.N, weight);
          }
          synchronize_group();
          const int row = tile.row + block_row;  // of the block's tile, in the block of G
          const bool masked =
              needs_masks(of.matrix, block.first_row + row, tile.col, BLOCK_ROWS, BLOCK_COLS);
          to_gradients(G, of.weights, of.matrix, block.first_row + row + warp_row(), tile.col,
                       masked, [&](int c) { return col_weights[col_of(c)]; });
          // Its first barrier comes after everybody has read the weights of this tile.
          store_block(of.block, row + group() * GROUP_ROWS, tile.col - block.first_col, G,
                      shared.stored[group()]);
        });
    finish_stores();
  });
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
