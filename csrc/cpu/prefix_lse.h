#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <tuple>

#include "rectangle.h"

namespace fastclip::cpu {

// The statistics of contrastive_lse for K prefixes of normalised features, which end at `ends`
// (ascending, the last one is D), in one pass over a rectangle that leaves out nothing.
//
// positive (K, M), maximum (K, M + N), total (K, M + N), kept (kept_rows, bytes of K N logits)
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> prefix_lse(const Rectangle& rectangle,
                                                                      at::IntArrayRef ends,
                                                                      int64_t kept_rows);

// grad_row (M, D) or (0), grad_col (N, D) or (0), grad_logit_scale ()
std::tuple<at::Tensor, at::Tensor, at::Tensor> prefix_lse_backward(
    const Rectangle& rectangle, at::IntArrayRef ends,
    const at::Tensor& grad_positive,  // (K, M)
    const at::Tensor& grad_total,     // (K, M + N)
    const at::Tensor& positive,       // (K, M)
    const at::Tensor& maximum,        // (K, M + N)
    const at::Tensor& kept,           // (kept_rows, bytes of K N logits)
    Sides wants);

}  // namespace fastclip::cpu
