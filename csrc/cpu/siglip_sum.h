#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <tuple>

#include "rectangle.h"

namespace fastclip::cpu {

// row_loss (M), kept (kept_rows, bytes of N logits)
std::tuple<at::Tensor, at::Tensor> siglip_sum(const Rectangle& rectangle,
                                              const at::Tensor& logit_bias,  // ()
                                              int64_t kept_rows);

// grad_row (M, D) or (0), grad_col (N, D) or (0), grad_logit_scale (), grad_logit_bias ()
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> siglip_sum_backward(
    const Rectangle& rectangle,
    const at::Tensor& logit_bias,     // ()
    const at::Tensor& grad_row_loss,  // (M)
    const at::Tensor& kept,           // (kept_rows, bytes of N logits), without the bias
    Sides wants);

// The sum of all row losses (); its gradients grad_row (M, D) or (0) and grad_col (N, D) or (0) of
// grad_dtype, grad_logit_scale (), grad_logit_bias ()
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> siglip_total(
    const Rectangle& rectangle,
    const at::Tensor& logit_bias,  // ()
    at::ScalarType grad_dtype,     // the features', or that of logits
    Sides wants);

}  // namespace fastclip::cpu
