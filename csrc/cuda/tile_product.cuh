// Tiles of similarities on any GPU from sm_80 on: the product that the portable kernels start from.
//
// Math
//   acc_ij = <row_i, col_j> of the operands (operands.cu), of one plane or two:
//     one    high_i high_j
//     two    low_i high_j + high_i low_j + high_i high_j: 22 bits of either factor
// Tiling
//   128 x 128 of a block of 8 warps, 32 x 64 of a warp, 32 features at a time through
//   shared memory.
// Cost
//   64 FLOPs per byte from the L2 cache; 48 KiB and at most 128 registers, so that two blocks share
//   a multiprocessor: one multiplies while the other is at its epilogue.
// Numerics
//   float16 factors, float32 sums; the small products first, where the sum has room for their
//   digits.
//   22 bits are those of the factors. A sum has fewer: tensor cores truncate where they add (Fasi et
//   al. 2021), so that it is drawn toward zero at every step of 16 features
//   (fastclip/backends/gpu/precision.py has figures). The emulator rounds.
// Limits
//   Operands are padded to whole tiles with zeros: no load is masked.
// Schedule
//   Stages of shared memory in a ring, filled by cp.async STAGES - 1 steps ahead, also across the
//   border of two tiles: the next tile arrives while this one's epilogue runs. One barrier a step:
//   after it, everybody has left the stage that is filled next. A stage has rows of 64 bytes,
//   16-byte chunk c of row r at c ^ (r / 2 % 4), so that eight rows of a fragment meet eight banks.
// Source
//   Markidis et al. 2018, arXiv:1803.04014, for splitting a factor into two halves; Fasi et al. 2021,
//   "Numerical behavior of NVIDIA tensor cores", PeerJ Computer Science 7:e330.
#pragma once

#include "features.h"
#include "fragment.cuh"

namespace fastclip::cuda {

constexpr int BLOCK = 128;  // rows and columns of a tile
constexpr int BLOCK_K = 32;
constexpr int STAGES = 3;
constexpr int THREADS = 256;
// Blocks on a multiprocessor. From sm_100 on the compiler needs a few registers more than half.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int RESIDENT = 1;
#else
constexpr int RESIDENT = 2;
#endif
constexpr int WARPS_M = 4, WARPS_N = 2;
constexpr int WARP_M = BLOCK / WARPS_M, WARP_N = BLOCK / WARPS_N;
constexpr int CHUNK = 8;  // float16 in 16 bytes
constexpr int CHUNKS = BLOCK_K / CHUNK;
constexpr int SIDE_BYTES = BLOCK * BLOCK_K * 2, STAGE_BYTES = 2 * SIDE_BYTES;
constexpr int PRODUCT_BYTES = STAGES * STAGE_BYTES;

using PortableFragment = Fragment<WARP_M / 16, WARP_N / 8>;

// `count` tiles one after the other, (row_step, col_step) from each to the next.
struct TileWalk {
  int first_row, first_col, row_step, col_step, count;
};

FASTCLIP_DEVICE int warp_row() { return threadIdx.x / WARP / WARPS_N * WARP_M; }
FASTCLIP_DEVICE int warp_col() { return threadIdx.x / WARP % WARPS_N * WARP_N; }

FASTCLIP_DEVICE int chunk_offset(int row, int chunk) {
  return row * (BLOCK_K * 2) + (chunk ^ (row / 2 % CHUNKS)) * 16;
}

// Products of planes that a product of operands is made of.
FASTCLIP_DEVICE int segments(const Operand& of) { return of.planes == 1 ? 1 : 3; }

// The chunks of a stage that a thread copies: one of every ROWS_AT_ONCE rows of either side. Where
// they come from is a pointer that moves on, since addresses made anew would take registers.
class Loader {
 public:
  FASTCLIP_DEVICE Loader(const Operand& rows, const Operand& cols, const TileWalk& walk)
      : rows_(rows), cols_(cols), walk_(walk), row_(walk.first_row), col_(walk.first_col) {
    segment_ = segments(rows) - 1;
    point();
  }

  FASTCLIP_DEVICE void fill(char* stage) {
    char* own = stage + chunk_offset(threadIdx.x / CHUNKS, threadIdx.x % CHUNKS);
    const int64_t down = int64_t{ROWS_AT_ONCE} * rows_.dim;
#pragma unroll
    for (int i = 0; i < BLOCK / ROWS_AT_ONCE; ++i) {
      copy_async(own + i * ROWS_AT_ONCE * BLOCK_K * 2, from_rows_ + i * down);
      copy_async(own + i * ROWS_AT_ONCE * BLOCK_K * 2 + SIDE_BYTES, from_cols_ + i * down);
    }
    from_rows_ += BLOCK_K;
    from_cols_ += BLOCK_K;
    k_ += BLOCK_K;
    if (k_ < rows_.dim) return;
    k_ = 0;
    if (--segment_ < 0) {
      segment_ = segments(rows_) - 1;
      row_ += walk_.row_step;
      col_ += walk_.col_step;
    }
    point();
  }

 private:
  static constexpr int ROWS_AT_ONCE = THREADS / CHUNKS;
  static_assert(ROWS_AT_ONCE % (2 * CHUNKS) == 0, "all of a thread's chunks are swizzled alike");

  FASTCLIP_DEVICE void point() {
    const int64_t row = row_ + (segment_ == 2 ? rows_.plane_rows : 0) + threadIdx.x / CHUNKS;
    const int64_t col = col_ + (segment_ == 1 ? cols_.plane_rows : 0) + threadIdx.x / CHUNKS;
    const int chunk = threadIdx.x % CHUNKS * CHUNK;
    from_rows_ = static_cast<const float16*>(rows_.values) + row * rows_.dim + chunk;
    from_cols_ = static_cast<const float16*>(cols_.values) + col * cols_.dim + chunk;
  }

  const Operand& rows_;
  const Operand& cols_;
  const TileWalk& walk_;
  const float16* from_rows_;
  const float16* from_cols_;
  int row_, col_, k_ = 0, segment_;
};

// acc += rows col^T of one stage.
FASTCLIP_DEVICE void multiply_stage(const char* stage, PortableFragment& fragment) {
  constexpr int M_TILES = PortableFragment::M_TILES, N_TILES = PortableFragment::N_TILES;
  const int lane = threadIdx.x % WARP;
  // Of the first fragment. Others are 16 rows, which are swizzled alike, or 2 chunks further.
  const int first_a = chunk_offset(warp_row() + lane % 16, lane / 16);
  const int first_b = chunk_offset(warp_col() + lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
  for (int k = 0; k < CHUNKS; k += 2) {
    uint32_t a[M_TILES][4], b[N_TILES / 2][4];  // b: two tiles of 8 columns, two halves of k each
    const char* rows = stage + (first_a ^ k * 16);
    const char* cols = stage + SIDE_BYTES + (first_b ^ k * 16);
#pragma unroll
    for (int m = 0; m < M_TILES; ++m) load_matrices(a[m], rows + m * 16 * BLOCK_K * 2);
#pragma unroll
    for (int n = 0; n < N_TILES / 2; ++n) load_matrices(b[n], cols + n * 16 * BLOCK_K * 2);
#pragma unroll
    for (int m = 0; m < M_TILES; ++m)
#pragma unroll
      for (int n = 0; n < N_TILES; ++n)
        multiply_add(fragment.acc[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
  }
}

// epilogue(fragment, first_row, first_col) for every tile of the walk. `shared`: PRODUCT_BYTES.
template <typename Epilogue>
FASTCLIP_DEVICE void multiply_tiles(const Operand& rows, const Operand& cols, const TileWalk& walk,
                                    char* shared, Epilogue&& epilogue) {
  Loader loader(rows, cols, walk);
  const int steps_of_tile = rows.dim / BLOCK_K * segments(rows);
  const int64_t num_steps = int64_t{steps_of_tile} * walk.count;
  for (int stage = 0; stage < STAGES - 1; ++stage) {
    if (stage < num_steps) loader.fill(shared + stage * STAGE_BYTES);
    commit_copies();
  }
  int stage = 0, next_stage = STAGES - 1;
  int64_t filled = STAGES - 1;
  for (int tile = 0; tile < walk.count; ++tile) {
    PortableFragment fragment;
    fragment.clear();
    for (int step = 0; step < steps_of_tile; ++step) {
      wait_for_copies<STAGES - 2>();
      __syncthreads();
      if (filled++ < num_steps) loader.fill(shared + next_stage * STAGE_BYTES);
      commit_copies();
      multiply_stage(shared + stage * STAGE_BYTES, fragment);
      stage = stage + 1 == STAGES ? 0 : stage + 1;
      next_stage = next_stage + 1 == STAGES ? 0 : next_stage + 1;
    }
    epilogue(fragment, walk.first_row + tile * walk.row_step,
             walk.first_col + tile * walk.col_step);
  }
  wait_for_copies<0>();
  __syncthreads();
}

}  // namespace fastclip::cuda
