// Forward: sums of exponentials of the negatives, of rows and of columns at once; Hopper.
//
// Math
//   ../negative_sums.cuh, then
//     row_partial_ti = over the columns j of tile t
//     col_partial_pj = over the rows i that a block has of its strip
// Tiling
//   A cluster has one tile of 256 columns and a strip of tiles of 2 x 128 rows below each other, so
//   that sums over rows stay in registers: 64 of each thread, beside the 128 of its logits.
// Cost
//   2 M N D FLOPs (three times that for float32-grade products), one exponential per logit; writes
//   4 M N (1 / 256 + 1 / (128 strip)) bytes, and 2 or 4 per kept logit.
//   Intervals: 8 bytes read from cache per row and tile, masks where a warp's part has one of them.
// Numerics
//   As ../negative_sums.cu.
// Limits
//   sm_90a.
// Schedule
//   product.cuh. A row of a tile belongs to four lanes: two shuffles, and no barrier in the loop. 4
//   stages, 192 KiB, and 8 KiB for the last reduction.
// Source
//   ../negative_sums.cu
#include "../negative_sums.cuh"

#include "../logit_matrix.cuh"
#include "product.cuh"

namespace fastclip::cuda::hopper {

namespace {

constexpr int STAGES = 4;
constexpr int CONSUMER_WARPS = CONSUMERS * WARPGROUP / WARP;

struct Shared {
  Ring<STAGES> ring;
  float over_rows[CONSUMER_WARPS][BLOCK_COLS];
};

struct Parameters {
  Factors factors;
  NegativeSums of;
};

template <bool MAXIMUM, Kept KEPT>
__global__ void __launch_bounds__(THREADS, 1)
    hopper_negative_sums_kernel(const __grid_constant__ Parameters parameters) {
#if FASTCLIP_HOPPER
  const NegativeSums& of = parameters.of;
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const int M = of.matrix.M, N = of.matrix.N;
  const int tile_of_panel = blockIdx.x / CLUSTER, rank = blockIdx.x % CLUSTER;
  const int first_col = (of.first_col_tile + tile_of_panel) * BLOCK_COLS;
  const int first_tile = blockIdx.y * of.strip_tiles;
  const int num_tiles = min(of.strip_tiles, (M + TILE_ROWS - 1) / TILE_ROWS - first_tile);
  const auto position = [&](int i) {
    return TilePosition{(first_tile + i) * TILE_ROWS, first_col};
  };

  divide_labour(parameters.factors, shared.ring, num_tiles, position, [&] {
    using Sums = SumsOfThread<HopperFragment, MAXIMUM, KEPT>;
    Sums sums(of);
    float* row_partial = of.row_partial + int64_t{tile_of_panel} * M;
    multiply_tiles(
        parameters.factors, shared.ring, num_tiles, [&](const HopperFragment& logits, int i) {
          const int block_row = position(i).row + rank * BLOCK_ROWS, row = block_row + warp_row();
          float over_cols[HopperFragment::ROWS];
          sums.add(logits, row, first_col,
                   needs_masks(of.matrix, block_row, first_col, BLOCK_ROWS, BLOCK_COLS), over_cols);
#pragma unroll
          for (int r = 0; r < HopperFragment::ROWS; ++r) {
            const float value = across_row(over_cols[r], Sums::merged);
            const int at = row + row_of(r);
            if (threadIdx.x % 4 == 0 && at < M) row_partial[at] = value;
          }
        });

    const int thread = threadIdx.x - WARPGROUP;  // of the consumers
#pragma unroll
    for (int c = 0; c < HopperFragment::COLS; ++c) {
      const float value = across_col(sums.over_rows[c], Sums::merged);
      if (threadIdx.x % WARP < 4) shared.over_rows[thread / WARP][col_of(c)] = value;
    }
    synchronize(1, CONSUMERS * WARPGROUP);
    static_assert(CONSUMERS * WARPGROUP == BLOCK_COLS, "a thread has a column");
    float value = shared.over_rows[0][thread];
    for (int warp = 1; warp < CONSUMER_WARPS; ++warp)
      value = Sums::merged(value, shared.over_rows[warp][thread]);
    const int col = first_col + thread;
    if (col < N) of.col_partial[(int64_t{blockIdx.y} * CLUSTER + rank) * N + col] = value;
  });
#endif
}

template <bool MAXIMUM, Kept KEPT>
void launch_negative_sums(const Parameters& parameters, int64_t stream) {
  const dim3 grid(parameters.of.num_col_tiles * CLUSTER, parameters.of.num_strips);
  launch(hopper_negative_sums_kernel<MAXIMUM, KEPT>, "hopper_negative_sums", grid, THREADS,
         sizeof(Shared), stream, parameters, CLUSTER);
}

}  // namespace

}  // namespace fastclip::cuda::hopper

namespace fastclip::cuda {

void hopper_negative_sums(const NegativeSums& of, bool maximum, Kept kept, int64_t stream) {
  using namespace hopper;
  const Parameters parameters{factors_of(of.rows, of.cols), of};
  if (maximum) return launch_negative_sums<true, Kept::NOTHING>(parameters, stream);
  if (kept == Kept::INT16) return launch_negative_sums<false, Kept::INT16>(parameters, stream);
  if (kept == Kept::FLOAT32) return launch_negative_sums<false, Kept::FLOAT32>(parameters, stream);
  launch_negative_sums<false, Kept::NOTHING>(parameters, stream);
}

}  // namespace fastclip::cuda
