// The whole CLIP loss of a square rectangle as one differentiable call, for eager mode.
//
// The same mathematics, from the same two primitives, as fastclip/ops/cross_entropy.py, which serves
// every other backend, torch.compile and fake tensors. At a batch of 64 the primitives take 130 us
// and the calls from Python around them would take 200 (2 threads, EPYC 9xx4, 2026-11-21); a drop-in
// is used at such batches too.
#include "clip_loss.h"

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "arguments.h"
#include "contrastive_lse.h"
#include "once_differentiable.h"

namespace fastclip::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Every row's pair is in its own column, and nothing is left out.
Rectangle square_of(const at::Tensor& row_features, const at::Tensor& col_features,
                    const at::Tensor& logit_scale, bool normalize) {
  return {row_features, col_features, logit_scale, Interval{}, Diagonal{0}, normalize};
}

// -log p = softplus(maximum + log total - positive), (2, B): rows, then columns.
template <typename T>
at::Tensor negative_log_likelihood(const at::Tensor& positive, const at::Tensor& maximum,
                                   const at::Tensor& total) {
  const at::Tensor nll = at::empty_like(total);
  const T *const positives = positive.const_data_ptr<T>(),
                 *const maxima = maximum.const_data_ptr<T>(),
                 *const totals = total.const_data_ptr<T>();
  T* const out = nll.data_ptr<T>();
  const int64_t B = positive.numel();
  for (int64_t i = 0; i < 2 * B; ++i) {
    const T x = (maxima[i] - positives[i % B]) + std::log(totals[i]);
    out[i] = (x > T(0) ? x : T(0)) + std::log1p(std::exp(-std::abs(x)));
  }
  return nll;
}

template <typename T>
at::Tensor reduced(const at::Tensor& nll, bool mean) {
  const T* const values = nll.const_data_ptr<T>();
  const int64_t B = nll.numel() / 2;
  if (!mean) return nll.view({2, B}).mean(0);
  double sum = 0.0;
  for (int64_t i = 0; i < 2 * B; ++i) sum += static_cast<double>(values[i]);
  return at::scalar_tensor(sum / static_cast<double>(2 * B), nll.options());
}

// d positive (B) and d total (2B), from 1 - p = -expm1(-nll).
template <typename T>
std::pair<at::Tensor, at::Tensor> statistics_gradients(const at::Tensor& grad_loss,
                                                       const at::Tensor& total,
                                                       const at::Tensor& nll, bool mean) {
  const int64_t B = nll.numel() / 2;
  const at::Tensor grad_positive = at::zeros({B}, nll.options());
  const at::Tensor grad_total = at::empty_like(nll);
  const T *const grad = grad_loss.const_data_ptr<T>(), *const totals = total.const_data_ptr<T>(),
                 *const nlls = nll.const_data_ptr<T>();
  T *const positive_out = grad_positive.data_ptr<T>(), *const total_out = grad_total.data_ptr<T>();
  for (int64_t i = 0; i < 2 * B; ++i) {
    const T weight = mean ? grad[0] / static_cast<T>(2 * B) : grad[i % B] / T(2);
    const T excess = -std::expm1(-nlls[i]) * weight;
    total_out[i] = excess / totals[i];
    positive_out[i % B] -= excess;
  }
  return {grad_positive, grad_total};
}

// The gradients for a grad_output that is not plain memory, as torch.autograd.grad's
// is_grads_batched makes: by operators that know such tensors (fastclip/ops/contrastive_lse.py).
[[gnu::noinline]] variable_list gradients_by_operators(const at::Tensor& grad_loss,
                                                       const variable_list& saved, bool mean,
                                                       bool normalize, Sides wants) {
  const auto &row_features = saved[0], &col_features = saved[1], &logit_scale = saved[2],
             &maximum = saved[3], &kept = saved[4], &total = saved[5], &nll = saved[6];
  const int64_t B = nll.numel() / 2;
  const at::Tensor weight = mean ? grad_loss / static_cast<double>(2 * B) : grad_loss / 2.0;
  const at::Tensor excess = at::expm1(-nll).neg().view({2, B}) * weight;
  const at::Tensor grad_total = (excess / total.view({2, B})).reshape({2 * B});
  static const auto backward =
      c10::Dispatcher::singleton().findSchemaOrThrow("fastclip::contrastive_lse_backward", "");
  // The square of all pairs, nothing excluded, both sides: the schema is in fastclip/ops/schemas.py.
  torch::jit::Stack stack = {
      row_features, col_features, logit_scale,   c10::IValue(),       c10::IValue(), 0,
      normalize,    true,         true,          excess.sum(0).neg(), grad_total,    maximum,
      kept,         "cpu",        c10::IValue(), wants.rows,          wants.cols};
  backward.callBoxed(stack);
  return {stack[0].toTensor(), stack[1].toTensor(), stack[2].toTensor()};
}

class ClipLoss : public torch::autograd::Function<ClipLoss> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& row_features,
                               const at::Tensor& col_features, const at::Tensor& logit_scale,
                               bool mean, bool normalize, int64_t kept_rows) {
    const auto [positive, maximum, total, kept] =
        contrastive_lse(square_of(row_features, col_features, logit_scale, normalize), kept_rows);
    const bool is_double = positive.scalar_type() == at::kDouble;
    const at::Tensor nll = is_double ? negative_log_likelihood<double>(positive, maximum, total)
                                     : negative_log_likelihood<float>(positive, maximum, total);
    ctx->save_for_backward({row_features, col_features, logit_scale, maximum, kept, total, nll});
    ctx->saved_data["mean"] = mean;
    ctx->saved_data["normalize"] = normalize;
    const at::Tensor by_side = maximum.view({2, -1});
    ctx->mark_non_differentiable({positive, by_side});
    ctx->set_materialize_grads(false);
    return {is_double ? reduced<double>(nll, mean) : reduced<float>(nll, mean), positive, by_side};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grad_outputs) {
    const auto saved = ctx->get_saved_variables();
    const auto &row_features = saved[0], &col_features = saved[1], &logit_scale = saved[2],
               &maximum = saved[3], &kept = saved[4], &total = saved[5], &nll = saved[6];
    const bool mean = ctx->saved_data["mean"].toBool();
    const bool normalize = ctx->saved_data["normalize"].toBool();
    const Sides wants{ctx->needs_input_grad(0), ctx->needs_input_grad(1)};
    variable_list gradients(6);
    if (!grad_outputs[0].defined()) return gradients;
    if (at::isTensorSubclassLike(grad_outputs[0])) {
      const auto all = gradients_by_operators(grad_outputs[0], saved, mean, normalize, wants);
      for (const size_t i : {0, 1, 2}) {
        if (ctx->needs_input_grad(i)) gradients[i] = all[i];
      }
      return gradients;
    }
    // Hooks may have put other tensors in the place of those that were saved.
    const Rectangle square = square_of(row_features, col_features, logit_scale, normalize);
    const Arguments of("clip_loss", square);
    const at::Tensor grad_loss = grad_outputs[0].contiguous();
    mean ? of.scalar("grad_loss", grad_loss) : of.vector("grad_loss", grad_loss, of.M());
    of.vector("total", total, 2 * of.M());
    of.vector("nll", nll, 2 * of.M());
    {
      at::NoGradGuard no_grad;
      const auto [grad_positive, grad_total] =
          nll.scalar_type() == at::kDouble
              ? statistics_gradients<double>(grad_loss, total, nll, mean)
              : statistics_gradients<float>(grad_loss, total, nll, mean);
      const auto [grad_row, grad_col, grad_logit_scale] =
          contrastive_lse_backward(square, grad_positive, grad_total, maximum, kept, wants);
      if (wants.rows) gradients[0] = grad_row;
      if (wants.cols) gradients[1] = grad_col;
      if (ctx->needs_input_grad(2)) gradients[2] = grad_logit_scale;
    }
    if (at::GradMode::is_enabled()) {
      for (at::Tensor& gradient : gradients) {
        if (!gradient.defined()) continue;
        gradient = once_differentiable("fastclip.clip_loss", gradient,
                                       {grad_outputs[0], row_features, col_features, logit_scale});
      }
    }
    return gradients;
  }
};

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> clip_loss(const at::Tensor& row_features,
                                                         const at::Tensor& col_features,
                                                         const at::Tensor& logit_scale, bool mean,
                                                         bool normalize, int64_t kept_rows) {
  const Arguments of("clip_loss", square_of(row_features, col_features, logit_scale, normalize));
  of.square();
  of.kept_rows(kept_rows);
  const auto outputs =
      ClipLoss::apply(row_features, col_features, logit_scale, mean, normalize, kept_rows);
  return {outputs[0], outputs[1], outputs[2]};
}

}  // namespace fastclip::cpu
