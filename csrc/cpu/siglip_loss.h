#pragma once

#include <ATen/ATen.h>

namespace fastclip::cpu {

// The sum of the sigmoid losses of a square, (), differentiable
at::Tensor siglip_loss(const at::Tensor& row_features,  // (B, D)
                       const at::Tensor& col_features,  // (B, D)
                       const at::Tensor& logit_scale,   // ()
                       const at::Tensor& logit_bias,    // ()
                       bool normalize);

}  // namespace fastclip::cpu
