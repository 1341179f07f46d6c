// Backward: a block of G from logits that the forward kept; any GPU.
//
// Math
//   logit_gradients.cuh, with logits that are multiples of `step`, or in log2 units
// Tiling
//   A thread has 16 rows of 4 columns, so that what belongs to columns is loaded once.
// Cost
//   Reads 2 or 4 bytes and writes 2 per logit and plane; two exponentials per logit. Intervals are
//   read by all threads, from cache: no tile is without masks, as memory is what takes time.
// Numerics
//   logit_gradients.cuh
// Limits
//   None.
// Schedule
//   No shared memory, no barriers.
// Source
//   None.
#include "features.cuh"
#include "logit_gradients.cuh"

namespace fastclip::cuda {

constexpr int ROWS_OF_THREAD = 16, THREADS_OF_KEPT = 128, RESIDENT_OF_KEPT = 12;
constexpr int COLS_OF_BLOCK = 256, ROWS_OF_KEPT_BLOCK = 2 * ROWS_OF_THREAD;

template <typename T>
__global__ void __launch_bounds__(THREADS_OF_KEPT, RESIDENT_OF_KEPT)
    kept_gradients_kernel(const KeptGradients of) {
  const GradientBlock& block = of.block;
  const float unit = sizeof(T) == 2 ? of.weights.scalars[STEP] : 1.0f;
  const float weight = of.weights.scalars[WEIGHT];
  const int block_col = blockIdx.x * COLS_OF_BLOCK + threadIdx.x % 64 * ELEMENTS;
  const int block_row = blockIdx.y * ROWS_OF_KEPT_BLOCK + threadIdx.x / 64 * ROWS_OF_THREAD;
  const int col = block.first_col + block_col;

  SideWeight col_weights[ELEMENTS];
  for (int c = 0; c < ELEMENTS; ++c)
    col_weights[c] = side_weight(of.weights, of.matrix.M + col + c, col + c < of.matrix.N, weight);

  for (int r = 0; r < ROWS_OF_THREAD; ++r) {
    const int row = block.first_row + block_row + r;
    const bool kept = row < of.kept_rows;
    const RowBounds bounds(of.matrix, row, col);
    const SideWeight row_weight = side_weight(of.weights, row, kept, weight);
    const T* logits = static_cast<const T*>(of.kept) + int64_t{row} * of.kept_stride;
    float G[ELEMENTS], low[ELEMENTS];
    if (kept) load_four(logits, col, of.kept_stride, 1, true, G);
    for (int c = 0; c < ELEMENTS; ++c) {
      if (kept && c == bounds.pair)
        G[c] = of.weights.grad_positive[row] * weight;
      else if (kept && bounds.is_negative(c))
        G[c] = weighted_gradient(G[c], unit, row_weight, col_weights[c]);
      else
        G[c] = 0.0f;
      low[c] = remainder_of_float16(G[c]);
    }
    const int64_t at = int64_t{block_row + r} * block.num_cols;
    float16* values = static_cast<float16*>(block.values) + at;
    store_four(values, block_col, block.num_cols, true, G);
    if (block.planes == 2)
      store_four(values + int64_t{block.num_rows} * block.num_cols, block_col, block.num_cols, true,
                 low);
  }
}

void kept_gradients(const KeptGradients& of, int64_t stream) {
  const dim3 grid(of.block.num_cols / COLS_OF_BLOCK, of.block.num_rows / ROWS_OF_KEPT_BLOCK);
  if (of.kept_is_float32)
    launch(kept_gradients_kernel<float>, "kept_gradients", grid, THREADS_OF_KEPT, 0, stream, of);
  else
    launch(kept_gradients_kernel<int16_t>, "kept_gradients", grid, THREADS_OF_KEPT, 0, stream, of);
}

}  // namespace fastclip::cuda
