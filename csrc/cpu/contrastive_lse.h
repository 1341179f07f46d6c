#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <tuple>

#include "rectangle.h"

namespace fastclip::cpu {

// positive (M), maximum (M + N), total (M + N), kept (kept_rows, bytes of N logits)
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> contrastive_lse(
    const Rectangle& rectangle, int64_t kept_rows);

// grad_row (M, D) or (0), grad_col (N, D) or (0), grad_logit_scale ()
std::tuple<at::Tensor, at::Tensor, at::Tensor> contrastive_lse_backward(
    const Rectangle& rectangle,
    const at::Tensor& grad_positive,  // (M)
    const at::Tensor& grad_total,     // (M + N)
    const at::Tensor& shift,          // (M + N): the maxima
    const at::Tensor& kept,           // (kept_rows, bytes of N logits)
    Sides wants);

}  // namespace fastclip::cpu
