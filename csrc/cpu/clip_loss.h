#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <tuple>

namespace fastclip::cpu {

// loss () or (B), differentiable; positive (B) and maximum (2, B) of the negatives, constants
std::tuple<at::Tensor, at::Tensor, at::Tensor> clip_loss(const at::Tensor& row_features,  // (B, D)
                                                         const at::Tensor& col_features,  // (B, D)
                                                         const at::Tensor& logit_scale,   // ()
                                                         bool mean, bool normalize,
                                                         int64_t kept_rows);

}  // namespace fastclip::cpu
