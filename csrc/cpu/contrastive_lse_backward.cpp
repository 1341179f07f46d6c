// contrastive_lse, backward: p from the statistics of the forward, then its products.
//
// Math      fastclip/backends/reference.py;  p is G divided by a power of two that makes
//           the largest weight about 1: the flush of lse_epilogue.h is relative to the result
// Tiling    logit_gradients.h
// Cost      6 M N D FLOPs (4 M N D where the logits were kept) and two exponentials per logit
// Limits    first derivatives only; gradients of sums and positives contiguous and in T
#include "arguments.h"
#include "contrastive_lse.h"
#include "logit_gradients.h"
#include "lse_epilogue.h"

namespace fastclip::cpu {
namespace {

template <typename T>
std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const Rectangle& rectangle,
                                                        const at::Tensor& grad_positive,
                                                        const at::Tensor& grad_total,
                                                        const at::Tensor& shift,
                                                        const at::Tensor& kept, Sides wants) {
  const Weights<T> weights({grad_positive, grad_total});
  const T* const pair_weight = weights[0];
  const T* const row_weight = weights[1];
  const T* const col_weight = row_weight + rectangle.M();
  const T* const row_max = shift.const_data_ptr<T>();
  const T* const col_max = row_max + rectangle.M();

  const auto gradients = logit_gradients<T>(
      rectangle, weights.scale(), kept_logits<T>(kept, rectangle.N()), rectangle.rows.scalar_type(),
      wants, [&](const T* logits, const Tile<T>& p) {
        lse_tile_backward(logits, p.rows.size(), p.cols.size(), row_weight + p.rows.begin,
                          row_max + p.rows.begin, col_weight + p.cols.begin, col_max + p.cols.begin,
                          p.data);
        // Not even the weights of a row or column that is nan reach what does not see it.
        leave_out(p, rectangle, T(0));
        for (int64_t i = 0; i < p.rows.size(); ++i) {
          const int64_t j = p.pair(i, rectangle.positives);
          if (j >= 0) p.data[i * p.cols.size() + j] = pair_weight[p.rows.begin + i];
        }
        return LogitSums{};
      });
  return {gradients.grad_row, gradients.grad_col,
          scalar<T>(gradients.grad_logit_scale, rectangle.logit_scale.options())};
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> contrastive_lse_backward(
    const Rectangle& rectangle, const at::Tensor& grad_positive, const at::Tensor& grad_total,
    const at::Tensor& shift, const at::Tensor& kept, Sides wants) {
  const Arguments of("contrastive_lse_backward", rectangle);
  of.vector("grad_positive", grad_positive, of.M());
  of.vector("grad_total", grad_total, of.M() + of.N());
  of.vector("shift", shift, of.M() + of.N());
  of.kept(kept);
  const auto run = rectangle.is_double() ? backward<double> : backward<float>;
  return run(rectangle, grad_positive, grad_total, shift, kept, wants);
}

}  // namespace fastclip::cpu
