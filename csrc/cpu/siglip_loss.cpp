// The sum of all sigmoid losses of a square as one differentiable call, for eager mode.
//
// The same as fastclip/ops/siglip_total.py, which serves every other backend, torch.compile and fake
// tensors, and says what the backward may do with the gradients that the forward has. Its calls from
// Python take a third of the time at a batch of 64, and a tenth at 256 (benchmarks/LOG.md).
#include "siglip_loss.h"

#include <ATen/TensorSubclassLikeUtils.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>

#include "arguments.h"
#include "once_differentiable.h"
#include "siglip_sum.h"

namespace fastclip::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Every row's pair is in its own column, and nothing is left out.
Rectangle square_of(const at::Tensor& row_features, const at::Tensor& col_features,
                    const at::Tensor& logit_scale, bool normalize) {
  return {row_features, col_features, logit_scale, Interval{}, Diagonal{0}, normalize};
}

// A gradient of a sum may pass 65,504, until it is multiplied with that of the loss.
at::ScalarType waiting_dtype(at::ScalarType dtype) {
  return dtype == at::kHalf ? at::kFloat : dtype;
}

class SiglipLoss : public torch::autograd::Function<SiglipLoss> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& row_features,
                            const at::Tensor& col_features, const at::Tensor& logit_scale,
                            const at::Tensor& logit_bias, bool normalize) {
    const Sides wants{row_features.requires_grad(), col_features.requires_grad()};
    const auto [total, grad_row, grad_col, grad_logit_scale, grad_logit_bias] =
        siglip_total(square_of(row_features, col_features, logit_scale, normalize), logit_bias,
                     waiting_dtype(row_features.scalar_type()), wants);
    // The inputs are saved too: changing them before the backward is an error, as everywhere.
    ctx->save_for_backward({row_features, col_features, logit_scale, logit_bias, grad_row, grad_col,
                            grad_logit_scale, grad_logit_bias});
    ctx->set_materialize_grads(false);
    return total;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grad_outputs) {
    const at::Tensor& grad_total = grad_outputs[0];
    variable_list gradients(5);
    const auto saved = ctx->get_saved_variables();
    if (!grad_total.defined()) return gradients;
    const bool differentiates_again = at::GradMode::is_enabled();
    // No other backward, nor one of this one, can need what the forward has saved.
    const bool is_the_last = !differentiates_again && !at::isTensorSubclassLike(grad_total) &&
                             !torch::autograd::get_current_graph_task_keep_graph();
    at::NoGradGuard no_grad;
    for (const size_t i : {0, 1, 2, 3}) {
      if (!ctx->needs_input_grad(i)) continue;
      const at::Tensor& of_sum = saved[4 + i];
      const at::Tensor scaled = is_the_last ? of_sum.mul_(grad_total) : grad_total * of_sum;
      gradients[i] = scaled.to(saved[i].scalar_type());
    }
    if (differentiates_again) {
      const at::AutoGradMode with_grad(true);
      for (at::Tensor& gradient : gradients) {
        if (!gradient.defined()) continue;
        gradient = once_differentiable("fastclip.siglip_loss", gradient,
                                       {grad_total, saved[0], saved[1], saved[2], saved[3]});
      }
    }
    return gradients;
  }
};

}  // namespace

at::Tensor siglip_loss(const at::Tensor& row_features, const at::Tensor& col_features,
                       const at::Tensor& logit_scale, const at::Tensor& logit_bias,
                       bool normalize) {
  const Arguments of("siglip_loss", square_of(row_features, col_features, logit_scale, normalize));
  of.square();
  of.scalar("logit_bias", logit_bias);
  return SiglipLoss::apply(row_features, col_features, logit_scale, logit_bias, normalize);
}

}  // namespace fastclip::cpu
