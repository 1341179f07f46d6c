#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <tuple>

namespace fastclip::cpu {

// row_loss (M), kept (kept_rows, bytes of N logits)
std::tuple<at::Tensor, at::Tensor> siglip_sum(const at::Tensor& row_features,  // (M, D)
                                              const at::Tensor& col_features,  // (N, D)
                                              const at::Tensor& logit_scale,   // ()
                                              const at::Tensor& logit_bias,    // ()
                                              int64_t positive_offset, bool normalize,
                                              int64_t kept_rows);

// grad_row (M, D) or (0), grad_col (N, D) or (0), grad_logit_scale (), grad_logit_bias ()
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> siglip_sum_backward(
    const at::Tensor& grad_row_loss,  // (M)
    const at::Tensor& row_features,   // (M, D)
    const at::Tensor& col_features,   // (N, D)
    const at::Tensor& logit_scale,    // ()
    const at::Tensor& logit_bias,     // ()
    const at::Tensor& kept,           // (kept_rows, bytes of N logits), without the bias
    int64_t positive_offset, bool normalize, bool needs_row_grad, bool needs_col_grad);

}  // namespace fastclip::cpu
