#pragma once

#include <ATen/ATen.h>

namespace fastclip::cpu {

// A gradient that depends on `inputs` and on the gradient of the loss, so that differentiating it
// again raises, in the name of `function`, instead of finding it constant.
at::Tensor once_differentiable(const char* function, const at::Tensor& gradient,
                               at::TensorList inputs);

}  // namespace fastclip::cpu
