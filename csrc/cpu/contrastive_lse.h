#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <tuple>

namespace fastclip::cpu {

// positive (M), maximum (M + N), total (M + N), kept (kept_rows, bytes of N logits)
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> contrastive_lse(
    const at::Tensor& row_features,  // (M, D)
    const at::Tensor& col_features,  // (N, D)
    const at::Tensor& logit_scale,   // ()
    int64_t positive_offset, bool normalize, int64_t kept_rows);

// grad_row (M, D) or (0), grad_col (N, D) or (0), grad_logit_scale ()
std::tuple<at::Tensor, at::Tensor, at::Tensor> contrastive_lse_backward(
    const at::Tensor& grad_positive,  // (M)
    const at::Tensor& grad_total,     // (M + N)
    const at::Tensor& row_features,   // (M, D)
    const at::Tensor& col_features,   // (N, D)
    const at::Tensor& logit_scale,    // ()
    const at::Tensor& shift,          // (M + N): the maxima
    const at::Tensor& kept,           // (kept_rows, bytes of N logits)
    int64_t positive_offset, bool normalize, bool needs_row_grad, bool needs_col_grad);

}  // namespace fastclip::cpu
