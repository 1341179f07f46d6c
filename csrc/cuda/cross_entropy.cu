// The mean of the CLIP loss over a square, from statistics, and from its gradient to theirs.
//
// Math
//   for every row and column, its pair's logit in `positive`:
//     x     = shift - positive + log(total),    nll = softplus(x) = -log p
//     loss  = mean of all 2N nll
//     w     = grad_loss / 2N,  1 - p = sigmoid(x)
//     grad_total = w (1 - p) / total,  grad_positive = -(w (1 - p) of the row + that of the column)
//   and the scalars of the backward (scalars.cu), among them `weight`, from the largest of these.
//   d logit_scale: the sum of what rows add to it.
// Tiling
//   One block, which strides over the N pairs.
// Cost
//   20 bytes read and 12 written per pair, by one multiprocessor: it is for thousands of pairs,
//   where a launch of many blocks and another for their results would take longer.
// Numerics
//   As fastclip/ops/cross_entropy.py: nothing cancels when p is nearly 1. Sums in float64, in a
//   fixed order.
// Limits
//   None.
// Schedule
//   A reduction over the block at the end.
// Source
//   None.
#include "cross_entropy.h"

#include "extents.cuh"

namespace fastclip::cuda {

constexpr int ALL_WARPS = 32, ALL_THREADS = ALL_WARPS * WARP;
constexpr int REDUCTION_BYTES = ALL_WARPS * static_cast<int>(sizeof(double));
// softplus(x) is x beyond it: e^-40 is below the rounding of a double.
constexpr float LARGE = 40.0f;

FASTCLIP_DEVICE double sum_of(double a, double b) { return a + b; }

FASTCLIP_DEVICE float logarithm_of_odds(const Statistics& of, int pair, int side) {
  const int i = side * of.N + pair;
  return of.shift[i] - of.positive[pair] + logf(of.total[i]);
}

__global__ void __launch_bounds__(ALL_THREADS) mean_loss_kernel(const MeanLoss of) {
  const int N = of.statistics.N;
  double sum = 0.0;
  for (int pair = threadIdx.x; pair < N; pair += ALL_THREADS) {
    for (int side = 0; side < 2; ++side) {
      const float x = logarithm_of_odds(of.statistics, pair, side);
      sum += x > LARGE ? x : log1pf(expf(x));
    }
  }
  sum = over_block<ALL_WARPS>(sum, reinterpret_cast<double*>(shared_memory()), sum_of);
  if (threadIdx.x == 0) *of.loss = static_cast<float>(sum / (2.0 * N));
}

__global__ void __launch_bounds__(ALL_THREADS)
    statistics_gradients_kernel(const StatisticsGradients of) {
  const Statistics& statistics = of.statistics;
  const int N = statistics.N;
  const float weight = *of.grad_loss / static_cast<float>(2 * N);
  float largest_total = 0.0f, largest_positive = 0.0f;
  for (int pair = threadIdx.x; pair < N; pair += ALL_THREADS) {
    float excess[2];
    for (int side = 0; side < 2; ++side) {
      const float x = logarithm_of_odds(statistics, pair, side), odds = expf(x);
      excess[side] = x > LARGE ? weight : weight * odds / (odds + 1.0f);
      const int i = side * N + pair;
      const float grad = excess[side] / statistics.total[i];
      of.grad_total[i] = grad;
      largest_total = larger(largest_total, fabsf(grad));
    }
    const float grad = -(excess[0] + excess[1]);
    of.grad_positive[pair] = grad;
    largest_positive = larger(largest_positive, fabsf(grad));
  }
  float* shared = reinterpret_cast<float*>(shared_memory());
  largest_total = over_block<ALL_WARPS>(largest_total, shared, larger);
  largest_positive = over_block<ALL_WARPS>(largest_positive, shared, larger);
  const ScalarInputs inputs = scalar_inputs<ALL_WARPS>(of.logit_scale, of.extents, N, shared);
  if (threadIdx.x > 0) return;
  compute_scalars(inputs, of.scalars);
  compute_gradient_scalars(inputs, bound_of_gradients(largest_total, largest_positive), of.scalars);
}

__global__ void __launch_bounds__(ALL_THREADS) scale_gradient_kernel(const ScaleGradient of) {
  double sum = 0.0;
  for (int row = threadIdx.x; row < of.N; row += ALL_THREADS) sum += of.of_rows[row];
  sum = over_block<ALL_WARPS>(sum, reinterpret_cast<double*>(shared_memory()), sum_of);
  if (threadIdx.x == 0) *of.sum = static_cast<float>(sum);
}

void mean_loss(const MeanLoss& of, int64_t stream) {
  launch(mean_loss_kernel, "mean_loss", dim3(1), ALL_THREADS, REDUCTION_BYTES, stream, of);
}

void statistics_gradients(const StatisticsGradients& of, int64_t stream) {
  launch(statistics_gradients_kernel, "statistics_gradients", dim3(1), ALL_THREADS, REDUCTION_BYTES,
         stream, of);
}

void scale_gradient(const ScaleGradient& of, int64_t stream) {
  launch(scale_gradient_kernel, "scale_gradient", dim3(1), ALL_THREADS, REDUCTION_BYTES, stream,
         of);
}

}  // namespace fastclip::cuda
