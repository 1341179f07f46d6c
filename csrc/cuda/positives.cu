// The logits of the pairs.
//
// Math
//   positive_i = s <row_i, col_{i + offset}>, 0 where row i has no pair; natural units
// Tiling
//   A warp has a row, a lane four elements at a time.
// Cost
//   Reads both operands once.
// Numerics
//   From the operands, not from the features: a negative that equals the positive must have the
//   same logit, or the difference of the two carries the rounding of the operands. Summed in
//   float64: an error of a positive is one of its whole row's gradient, where errors of negatives
//   average out.
// Limits
//   None.
// Schedule
//   No shared memory, no barriers.
// Source
//   None.
#include "positives.h"

#include "logit_matrix.cuh"
#include "positives.cuh"
#include "scalars.h"

namespace fastclip::cuda {

__global__ void __launch_bounds__(THREADS_OF_ROWS) positives_kernel(const Positives of) {
  const int row = blockIdx.x * ROWS_OF_BLOCK + threadIdx.x / WARP;
  if (row >= of.matrix.M) return;
  const int64_t col = pair_column(of.matrix, row);
  double product = 0.0;
  if (has_column(of.matrix, col)) product = pair_product(of.rows, of.cols, row, col);
  product = warp_sum(product);
  if (threadIdx.x % WARP == 0)
    of.positive[row] = static_cast<float>(product) * of.scalars[UNIT] * LN_2;
}

void positives(const Positives& of, int64_t stream) {
  const dim3 grid((of.matrix.M + ROWS_OF_BLOCK - 1) / ROWS_OF_BLOCK);
  launch(positives_kernel, "positives", grid, THREADS_OF_ROWS, 0, stream, of);
}

}  // namespace fastclip::cuda
