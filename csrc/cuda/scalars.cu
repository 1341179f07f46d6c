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

__global__ void scalars_kernel(const ScalarsOf of) {
  ScalarInputs inputs{*of.logit_scale,
                      of.logit_bias == nullptr ? 0.0f : *of.logit_bias,
                      of.row_largest != nullptr,
                      {},
                      {},
                      of.longest_sum};
  if (inputs.scaled) {
    inputs.rows = {*of.row_largest, *of.row_norm};
    inputs.cols = {*of.col_largest, *of.col_norm};
  }
  compute_scalars(inputs, of.values);
  if (!of.with_gradients) return;

  float largest = 1.0f;
  if (of.grad_total != nullptr || of.grad_positive != nullptr)
    largest = bound_of_gradients(of.grad_total == nullptr ? 0.0f : *of.grad_total,
                                 of.grad_positive == nullptr ? 0.0f : *of.grad_positive);
  compute_gradient_scalars(inputs, largest, of.values);
}

void scalars(const ScalarsOf& of, int64_t stream) {
  launch(scalars_kernel, "scalars", dim3(1), 1, 0, stream, of);
}

}  // namespace fastclip::cuda
