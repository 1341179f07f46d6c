#include "once_differentiable.h"

#include <torch/csrc/autograd/custom_function.h>

#include <string>

namespace fastclip::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class OnceDifferentiable : public torch::autograd::Function<OnceDifferentiable> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gradient, at::TensorList,
                            const std::string& function) {
    ctx->saved_data["function"] = function;
    return gradient.alias();
  }

  static variable_list backward(AutogradContext* ctx, const variable_list&) {
    TORCH_CHECK(false, ctx->saved_data["function"].toStringRef(),
                " is not differentiable twice: fastclip implements first derivatives only. For "
                "second derivatives, write the loss in plain PyTorch.");
  }
};

}  // namespace

at::Tensor once_differentiable(const char* function, const at::Tensor& gradient,
                               at::TensorList inputs) {
  return OnceDifferentiable::apply(gradient, inputs, std::string(function));
}

}  // namespace fastclip::cpu
