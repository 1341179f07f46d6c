// Forward: sums of exponentials of the negatives, of rows and of columns at once; any GPU.
//
// Math
//   negative_sums.cuh, then
//     row_partial_ti = over the columns j of tile t
//     col_partial_pj = over the rows i of strip p
// Tiling
//   A block has one tile of columns and a strip of row tiles below each other, so that sums over
//   rows stay in its registers: no shuffle in the loop. Columns go in panels: a panel's operand
//   stays in the L2 cache, and row_partial is bounded.
// Cost
//   2 M N D FLOPs (three times that for float32-grade products), one exponential per logit; writes
//   4 M N (1 / 128 + 1 / (128 strip)) bytes, and 2 or 4 per kept logit.
//   Intervals: 8 bytes read from cache per row and tile, masks where a warp's part has one of them.
// Numerics
//   One shift for all logits, from a bound that needs no data (scalars.cu): one exponential serves
//   both directions and partial sums are plain sums. Rows that it fails are redone in finalise.cu.
//   No atomics: the same bits at every run. Beside maxima, positives come from the same
//   accumulator: where features are equal their logits are, and a tie is seen to be one.
// Limits
//   None.
// Schedule
//   tile_product.cuh. 49 KiB.
// Source
//   Sums of both directions from one tile are also in memeff (b0nce/MemoryEfficientCLIP).
#include "negative_sums.cuh"

#include "tile_reduction.cuh"

namespace fastclip::cuda {

// Addresses of kept logits and of positives take the registers of a second block.
template <bool MAXIMUM, Kept KEPT>
constexpr int BLOCKS_OF = MAXIMUM || KEPT != Kept::NOTHING ? 1 : RESIDENT;

template <bool MAXIMUM, Kept KEPT>
__global__ void __launch_bounds__(THREADS, (BLOCKS_OF<MAXIMUM, KEPT>))
    negative_sums_kernel(const NegativeSums of) {
  char* shared = shared_memory();
  const int first_tile = blockIdx.y * of.strip_tiles;
  const int last_tile = min(first_tile + of.strip_tiles, (of.matrix.M + BLOCK - 1) / BLOCK);
  const int first_col = (of.first_col_tile + blockIdx.x) * BLOCK;
  const TileWalk walk{first_tile * BLOCK, first_col, BLOCK, 0, last_tile - first_tile};
  using Sums = SumsOfThread<PortableFragment, MAXIMUM, KEPT>;
  Sums sums(of);

  float* row_scratch = reinterpret_cast<float*>(shared + PRODUCT_BYTES);
  float* row_partial = of.row_partial + int64_t{blockIdx.x} * of.matrix.M;
  multiply_tiles(of.rows, of.cols, walk, shared,
                 [&](const PortableFragment& logits, int row, int col) {
                   float over_cols[PortableFragment::ROWS];
                   const bool masked = needs_masks(of.matrix, row, col, BLOCK, BLOCK);
                   sums.add(logits, row + warp_row(), col + warp_col(), masked, over_cols);
#pragma unroll
                   for (int r = 0; r < PortableFragment::ROWS; ++r)
                     put_row(r, over_cols[r], row_scratch, Sums::merged);
                   __syncthreads();
                   // The next tile's barriers come before the next use of the scratch.
                   collect_rows(row_scratch, Sums::merged, [&](int i, float value) {
                     if (row + i < of.matrix.M) row_partial[row + i] = value;
                   });
                 });
  float* col_partial = of.col_partial + int64_t{blockIdx.y} * of.matrix.N;
  float* col_scratch = reinterpret_cast<float*>(shared);
  reduce_cols(sums.over_rows, col_scratch, Sums::merged, [&](int j, float value) {
    if (first_col + j < of.matrix.N) col_partial[first_col + j] = value;
  });
}

template <bool MAXIMUM, Kept KEPT>
void launch_negative_sums(const NegativeSums& of, int64_t stream) {
  const dim3 grid(of.num_col_tiles, of.num_strips);
  launch(negative_sums_kernel<MAXIMUM, KEPT>, "negative_sums", grid, THREADS,
         PRODUCT_BYTES + ROW_SCRATCH_BYTES, stream, of);
}

void negative_sums(const NegativeSums& of, bool maximum, Kept kept, int64_t stream) {
  if (maximum) return launch_negative_sums<true, Kept::NOTHING>(of, stream);
  if (kept == Kept::INT16) return launch_negative_sums<false, Kept::INT16>(of, stream);
  if (kept == Kept::FLOAT32) return launch_negative_sums<false, Kept::FLOAT32>(of, stream);
  launch_negative_sums<false, Kept::NOTHING>(of, stream);
}

}  // namespace fastclip::cuda
