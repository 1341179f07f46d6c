// From gradients of the logits to gradients of the features: the backward of every primitive, and
// both directions at once of one whose gradients of the logits need no statistics.
//
// Math
//   p_ij = d loss / d logit_ij / weight_scale, given by the primitive
//   a = p col,  b = p^T row      (M, D), (N, D)
//   d row = f a,  d col = f b,  f = logit_scale weight_scale;
//   d logit_scale = weight_scale <a, row>, and where the features were normalised both go
//   through the normalisation (features.h).
//
// Tiling
//   gradient_products.h: a panel is 2 x 8 tiles of p (512 x 4096, 8 MiB in float), 8 x 8 with more
//   than 16 threads. A tile is a product, unless its logits were kept, and the primitive's epilogue.
//
// Cost
//   6 M N D FLOPs, 4 M N D where the logits were kept. Memory: the panel of p; for features that
//   are not in the compute type, buffers for one panel; for gradients that are not, one accumulator
//   for all rows.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <numeric>
#include <vector>

#include "gradient_products.h"
#include "logit_tiles.h"
#include "rectangle.h"

namespace fastclip::cpu {

// What an epilogue adds up over the logits of a tile.
struct LogitSums {
  double gradient = 0.0;  // of p: the gradient of a bias
  double loss = 0.0;      // of a loss whose forward this is too

  LogitSums operator+(const LogitSums& other) const {
    return {gradient + other.gradient, loss + other.loss};
  }
};

struct LogitGradientOutputs {
  at::Tensor grad_row;  // (M, D) or (0)
  at::Tensor grad_col;  // (N, D) or (0)
  double grad_logit_scale;
  LogitSums sums;
};

// A sum in double as a tensor of T: infinite beyond the range of T, as a sum in T would be.
template <typename T>
at::Tensor scalar(double sum, const at::TensorOptions& options) {
  return at::full({}, static_cast<T>(sum), options);
}

// epilogue(logits, Tile p) -> LogitSums writes a tile of p; `logits` may be the same memory as p.
// Gradients of features are in `grad_dtype`: theirs, or T.
template <typename T, typename Epilogue>
LogitGradientOutputs logit_gradients(const Rectangle& rectangle, double weight_scale,
                                     KeptLogits<T> kept, at::ScalarType grad_dtype, Sides wants,
                                     const Epilogue& epilogue) {
  const double logit_scale = rectangle.logit_scale.item<double>();
  const GradientPanels panels(rectangle);
  Features<T> rows(rectangle.rows, rectangle.normalize, panels.max_rows);
  Features<T> cols(rectangle.cols, rectangle.normalize, panels.max_cols);
  // d logit_scale is a by-product of either side: without any, take the rows.
  GradientSums<T> row_sums(rows, wants.rows || !wants.cols, rows.size(), grad_dtype);
  GradientSums<T> col_sums(cols, wants.cols, panels.max_cols, grad_dtype);
  std::vector<LogitSums> tile_sums(panels.tile_rows * panels.tile_cols);
  LogitSums sums;
  double col_dot = 0.0, row_dot = 0.0;
  const double factor = logit_scale * weight_scale;
  const auto finish = [&](GradientSums<T>& sums, const Features<T>& features, Range span,
                          int64_t first) {
    return sums.finish(span, first, [&](int64_t i, const T* row, T* sum) {
      const double dot = scale_and_dot(sum, row, features.dim(), static_cast<T>(factor));
      features.normalization_backward(i, row, [&](int64_t) { return dot * factor; }, sum);
      return dot;
    });
  };

  sum_products<T>(
      rows, cols, panels, row_sums, col_sums,
      [&](const Block<const T>& tile_rows, const Block<const T>& tile_cols,
          const GradientTile<T>& gradients) {
        const Tile<T> tile = gradients.of(0);
        const T* logits = tile.data;
        if (kept.holds(tile.rows)) {
          logits = kept.tile(tile.rows, tile.cols);
        } else {
          tile_logits(tile_rows, tile_cols, tile, rectangle, logit_scale);
        }
        tile_sums[tile.row_index * panels.tile_cols + tile.col_index] = epilogue(logits, tile);
      },
      [&](Range row_tiles, Range col_tiles) {
        for (int64_t i = 0; i < row_tiles.size(); ++i) {
          const auto first = tile_sums.begin() + i * panels.tile_cols;
          sums = std::accumulate(first, first + col_tiles.size(), sums);
        }
      },
      [&](Range span) { col_dot += finish(col_sums, cols, span, span.begin); });
  for_each_row_panel(panels, [&](Range span) { row_dot += finish(row_sums, rows, span, 0); });
  const double dot = row_sums.needed() ? row_dot : col_dot;
  const auto no_gradient = rectangle.rows.options().dtype(grad_dtype);
  return {wants.rows ? row_sums.result() : empty({0}, no_gradient),
          col_sums.result(),
          dot * weight_scale,
          {sums.gradient * weight_scale, sums.loss}};
}

// Gradients of sums and positives as the epilogues want them: divided by a power of two that brings
// the largest to [1/2, 1), which is exact. Where all are zero, or one is not finite, they stay.
template <typename T>
class Weights {
 public:
  explicit Weights(std::initializer_list<at::Tensor> gradients) {
    for (const at::Tensor& gradient : gradients) {
      const T* const values = gradient.const_data_ptr<T>();
      weights_.emplace_back(values, values + gradient.numel());
    }
    T largest = T(0);
    for (const auto& weights : weights_) {
      for (const T weight : weights) largest = std::max(largest, std::abs(weight));
    }
    are_zero_ = largest == T(0);
    if (!(largest > T(0)) || !std::isfinite(largest)) return;
    divide_by(std::ldexp(1.0, std::ilogb(largest) + 1));
  }

  double scale() const { return scale_; }
  bool are_zero() const { return are_zero_; }

  // By a power of two, which goes into the scale.
  void divide_by(double factor) {
    scale_ *= factor;
    for (auto& weights : weights_) {
      for (T& weight : weights) weight = static_cast<T>(weight / factor);
    }
  }

  const T* operator[](size_t i) const { return weights_[i].data(); }

 private:
  double scale_ = 1.0;
  bool are_zero_ = false;
  std::vector<std::vector<T>> weights_;
};

}  // namespace fastclip::cpu
