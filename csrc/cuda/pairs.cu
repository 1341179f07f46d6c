// Operands of both sides of a square, the scalars of the call and the logits of the pairs, at once.
//
// Math
//   operands.cu, scalars.cu and positives.cu, the same to the bit
// Tiling
//   A warp has a row of either side: a pair. A lane has four elements at a time.
// Cost
//   That of operands.cu for both sides; what it has written it reads again, from cache. One launch
//   in the place of four: a batch of a few thousand pairs is over before so many are launched.
// Numerics
//   As there. Every block computes the factors for itself: from (2, N / 32, 2) extents, where rows
//   are not normalised.
// Limits
//   The pairs are the main diagonal.
// Schedule
//   No barriers where rows are normalised.
// Source
//   None.
#include "pairs.h"

#include "extents.cuh"
#include "operands.cuh"
#include "positives.cuh"

namespace fastclip::cuda {

FASTCLIP_DEVICE Operand prepared(const Preparation& of) {
  return {of.values, of.planes, of.plane_rows, of.dim, of.features.rows};
}

template <typename T>
__global__ void __launch_bounds__(THREADS_OF_ROWS) pairs_kernel(const Pairs of) {
  const int row = blockIdx.x * ROWS_OF_BLOCK + threadIdx.x / WARP;  // below plane_rows
  const int N = of.rows.features.rows;
  const ScalarInputs inputs = scalar_inputs<ROWS_OF_BLOCK>(
      of.logit_scale, of.extents, N, reinterpret_cast<float*>(shared_memory()));
  const bool scaled = inputs.scaled;
  prepare_row<T>(of.rows, row, scaled ? power_of_two_factor(inputs.rows.largest) : 0.0f);
  prepare_row<T>(of.cols, row, scaled ? power_of_two_factor(inputs.cols.largest) : 0.0f);

  float scalars[NUM_SCALARS];
  compute_scalars(inputs, scalars);
  if (blockIdx.x == 0 && threadIdx.x == 0)
    for (const int i : {UNIT, SHIFT, BIAS, STEP, SCALE}) of.scalars[i] = scalars[i];
  if (row >= N) return;
  const double product = warp_sum(pair_product(prepared(of.rows), prepared(of.cols), row, row));
  if (threadIdx.x % WARP == 0)
    of.positive[row] = static_cast<float>(product) * scalars[UNIT] * LN_2;
}

void pairs(const Pairs& of, int64_t stream) {
  const dim3 grid(of.rows.plane_rows / ROWS_OF_BLOCK);
  with_dtype(of.rows.features.dtype, [&](auto element) {
    launch(pairs_kernel<decltype(element)>, "pairs", grid, THREADS_OF_ROWS,
           ROWS_OF_BLOCK * static_cast<int>(sizeof(float)), stream, of);
  });
}

}  // namespace fastclip::cuda
