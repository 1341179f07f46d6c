// The scalars of a call.
//
// Math
//   with s = logit_scale, f_r and f_c the factors of the two operands, logits in log2 units:
//     unit    = s log2(e) / (f_r f_c)
//     bound   = 1.01 |s| log2(e) max|row| max|col|    of |logit|; norms are 1 where normalised
//     shift   = max(0, bound + log2(longest sum) - 96)
//     step    = bound / 32767
//     weight  = 2^14 / largest |G|, rounded down to a power of two
// Tiling
//   One thread.
// Cost
//   Nothing but a launch: no number waits for the host.
// Numerics
//   A sum of 2^(logit - shift) is at most 2^96: neither it nor its gradient, about 2^-96 over the
//   batch, leaves float32's range. |G| is at most 2 |grad_total| + 2 |grad_total'| or
//   |grad_positive|; factors are powers of two, which are exact.
// Limits
//   None.
// Schedule
//   None.
// Source
//   fastclip/backends/gpu/scalars.py has the same for every GPU backend.
#include "scalars.h"

#include "scalars.cuh"

namespace fastclip::cuda {

constexpr float LARGEST_SUM = 96.0f;  // log2
constexpr float KEPT_LEVELS = 32767.0f;

__global__ void scalars_kernel(const ScalarsOf of) {
  const float scale = *of.logit_scale;
  float row_factor = 1.0f / UNIT_FACTOR, col_factor = 1.0f / UNIT_FACTOR;
  float bound = 1.01f * fabsf(scale) * LOG2_E;
  if (of.row_largest != nullptr) {
    row_factor = 1.0f / power_of_two_factor(*of.row_largest);
    col_factor = 1.0f / power_of_two_factor(*of.col_largest);
    bound *= *of.row_norm * *of.col_norm;
  }
  const float shift = bound + log2f(static_cast<float>(of.longest_sum)) - LARGEST_SUM;
  of.values[UNIT] = scale * LOG2_E * row_factor * col_factor;
  of.values[SHIFT] = shift < 0.0f ? 0.0f : shift;  // a nan stays one
  of.values[STEP] = bound / KEPT_LEVELS;
  of.values[SCALE] = scale;
  of.values[BIAS] = of.logit_bias == nullptr ? 0.0f : *of.logit_bias * LOG2_E;
  if (!of.with_gradients) return;

  float largest = of.grad_total == nullptr && of.grad_positive == nullptr ? 1.0f : 0.0f;
  if (of.grad_total != nullptr) largest = 4.0f * *of.grad_total;
  if (of.grad_positive != nullptr) {
    const float positive = *of.grad_positive;
    largest = positive > largest || positive != positive ? positive : largest;
  }
  const float weight = power_of_two_factor(largest) * 64.0f;
  of.values[WEIGHT] = weight;
  of.values[GRAD_ROW] = col_factor / weight;
  of.values[GRAD_COL] = row_factor / weight;
}

void scalars(const ScalarsOf& of, int64_t stream) {
  launch(scalars_kernel, "scalars", dim3(1), 1, 0, stream, of);
}

}  // namespace fastclip::cuda
