// siglip_sum: the sigmoid loss of a rectangle, row by row, and its gradients. siglip_total: the sum of
// all with its gradients in one pass, since the gradient of a logit needs no other logit.
//
// Math      fastclip/backends/reference.py
// Tiling    logit_tiles.h and logit_gradients.h; a tile leaves one partial loss per row
// Cost      8 M N D FLOPs forward and backward; 6 M N D where the logits are kept, which is N x N
//           memory to write and to read, and in one pass, which is none
// Numerics  logits in T: float, or double for double features; losses are summed in double beyond
//           a tile's row
// Limits    M, N, D >= 1; features in float, double, half or bfloat16, any strides; finite or not
#include "siglip_sum.h"

#include "arguments.h"
#include "logit_gradients.h"
#include "logit_tiles.h"
#include "siglip_epilogue.h"

namespace fastclip::cpu {
namespace {

template <typename T>
std::tuple<at::Tensor, at::Tensor> forward(const Rectangle& rectangle, const at::Tensor& logit_bias,
                                           int64_t kept_rows) {
  const T bias = static_cast<T>(logit_bias.item<double>());
  const Blocking blocking(rectangle.M(), rectangle.N());
  const int64_t panel_rows = kForwardPanelRows * blocking.rows.size();
  const int64_t panel_cols = kForwardPanelCols * blocking.cols.size();
  Features<T> rows(rectangle.rows, rectangle.normalize, panel_rows);
  Features<T> cols(rectangle.cols, rectangle.normalize, panel_cols);
  const auto options = at::TensorOptions(c10::CppTypeToScalarType<T>::value);
  const at::Tensor row_loss = at::zeros({rows.size()}, options.dtype(at::kDouble));
  const at::Tensor kept = empty({kept_rows, cols.size()}, options);
  const at::Tensor partials =
      empty({kForwardPanelCols, std::min(rows.size(), panel_rows)}, options);

  for_each_logit_tile<T>(
      rows, cols, blocking, rectangle, {kept.data_ptr<T>(), kept_rows, cols.size()},
      [&](const Tile<T>& tile) {
        T* const partial = partials.data_ptr<T>() + tile.col_index * partials.size(1) +
                           tile.row_index * blocking.rows.size();
        siglip_tile(tile.data, tile.rows.size(), tile.cols.size(), bias,
                    tile.pair_from(0, rectangle.positives), partial);
      },
      [&](Range row_tiles, Range col_tiles) {
        const Range span = blocking.rows.span(row_tiles);
        row_loss.narrow(0, span.begin, span.size())
            .add_(partials.narrow(0, 0, col_tiles.size())
                      .narrow(1, 0, span.size())
                      .sum(0, /*keepdim=*/false, at::kDouble));
      });
  return {row_loss.to(options), kept.view(at::kByte)};
}

template <typename T>
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward(const Rectangle& rectangle,
                                                                    const at::Tensor& logit_bias,
                                                                    const at::Tensor& grad_row_loss,
                                                                    const at::Tensor& kept,
                                                                    Sides wants) {
  const Weights<T> weights({grad_row_loss});
  const T* const row_weight = weights[0];
  const T bias = static_cast<T>(logit_bias.item<double>());

  const auto gradients = logit_gradients<T>(
      rectangle, weights.scale(), kept_logits<T>(kept, rectangle.N()), rectangle.rows.scalar_type(),
      wants, [&](const T* logits, const Tile<T>& p) {
        const double sum = siglip_tile_backward(logits, p.rows.size(), p.cols.size(), bias,
                                                p.pair_from(0, rectangle.positives),
                                                row_weight + p.rows.begin, p.data);
        return LogitSums{.gradient = sum};
      });
  return {gradients.grad_row, gradients.grad_col,
          scalar<T>(gradients.grad_logit_scale, rectangle.logit_scale.options()),
          scalar<T>(gradients.sums.gradient, logit_bias.options())};
}

template <typename T>
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> at_once(
    const Rectangle& rectangle, const at::Tensor& logit_bias, at::ScalarType grad_dtype,
    Sides wants) {
  const T bias = static_cast<T>(logit_bias.item<double>());
  const KeptLogits<T> none{nullptr, 0, rectangle.N()};
  const auto gradients =
      logit_gradients<T>(rectangle, 1.0, none, grad_dtype, wants, [&](const T*, const Tile<T>& p) {
        const auto sums = siglip_tile_at_once(p.data, p.rows.size(), p.cols.size(), bias,
                                              p.pair_from(0, rectangle.positives));
        return LogitSums{.gradient = sums.gradient, .loss = sums.loss};
      });
  return {scalar<T>(gradients.sums.loss, logit_bias.options()), gradients.grad_row,
          gradients.grad_col,
          scalar<T>(gradients.grad_logit_scale, rectangle.logit_scale.options()),
          scalar<T>(gradients.sums.gradient, logit_bias.options())};
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> siglip_sum(const Rectangle& rectangle,
                                              const at::Tensor& logit_bias, int64_t kept_rows) {
  const Arguments of("siglip_sum", rectangle);
  of.scalar("logit_bias", logit_bias);
  of.kept_rows(kept_rows);
  const auto run = rectangle.is_double() ? forward<double> : forward<float>;
  return run(rectangle, logit_bias, kept_rows);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> siglip_sum_backward(
    const Rectangle& rectangle, const at::Tensor& logit_bias, const at::Tensor& grad_row_loss,
    const at::Tensor& kept, Sides wants) {
  const Arguments of("siglip_sum_backward", rectangle);
  of.scalar("logit_bias", logit_bias);
  of.vector("grad_row_loss", grad_row_loss, of.M());
  of.kept(kept);
  const auto run = rectangle.is_double() ? backward<double> : backward<float>;
  return run(rectangle, logit_bias, grad_row_loss, kept, wants);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> siglip_total(
    const Rectangle& rectangle, const at::Tensor& logit_bias, at::ScalarType grad_dtype,
    Sides wants) {
  const Arguments of("siglip_total", rectangle);
  of.scalar("logit_bias", logit_bias);
  of.grad_dtype(grad_dtype);
  const auto run = rectangle.is_double() ? at_once<double> : at_once<float>;
  return run(rectangle, logit_bias, grad_dtype, wants);
}

}  // namespace fastclip::cpu
