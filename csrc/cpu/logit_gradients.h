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
//   A panel is 2 x 8 tiles of p (512 x 4096, 8 MiB in float), 8 x 8 with more than 16 threads. For
//   each panel, two parallel phases: every tile of p is a task (a product, unless its logits were
//   kept, and the primitive's epilogue); then every tile row of `a` and tile column of `b` is one,
//   each written by one task in a fixed order. No copy of a gradient per thread, no atomics.
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

inline int64_t backward_panel_rows() { return at::get_num_threads() > 16 ? 8 : 2; }
inline constexpr int64_t kBackwardPanelCols = 8;

// Sums of products for one side. Where their gradient is in T they are made in the result itself.
template <typename T>
class GradientSums {
 public:
  // `count` rows are accumulated at a time: all of them, or a panel's.
  GradientSums(Features<T>& features, bool needed, int64_t count, at::ScalarType grad_dtype)
      : features_(features), needed_(needed) {
    const auto dtype = c10::CppTypeToScalarType<T>::value;
    const auto& like = features.tensor();
    const auto options = like.options();
    result_ = empty(needed ? like.sizes() : at::IntArrayRef{0}, options.dtype(grad_dtype));
    in_place_ = needed && grad_dtype == dtype;
    if (!in_place_) sums_ = empty({needed ? count : 0, features.dim()}, options.dtype(dtype));
  }

  bool needed() const { return needed_; }
  const at::Tensor& result() const { return result_; }

  // Rows `rows` of the sums, where the buffer, if there is one, begins at row `first`.
  Block<T> rows(Range rows, int64_t first) {
    const int64_t dim = features_.dim();
    T* const base = in_place_ ? result_.template data_ptr<T>() + rows.begin * dim
                              : sums_.template data_ptr<T>() + (rows.begin - first) * dim;
    return {base, rows.size(), dim, dim};
  }

  // Turns finished sums of `panel` into gradients; returns sum_i <sums_i, features_i>.
  double finish(Range panel, int64_t first, double factor) {
    if (!needed_) return 0.0;
    const Block<const T> prepared = features_.load(panel);
    const Block<T> sums = rows(panel, first);
    const Partition parts(panel.size(), 64);
    const at::Tensor dots = empty({parts.count()}, at::kDouble);
    double* const part_dots = dots.data_ptr<double>();
    for_each_task(parts.count(), [&](int64_t task, int64_t) {
      double total = 0.0;
      for (int64_t i = parts[task].begin; i < parts[task].end; ++i) {
        T* const sum = sums.data + i * sums.row_stride;
        const T* const row = prepared.data + i * prepared.row_stride;
        const double dot = scale_and_dot(sum, row, sums.cols, static_cast<T>(factor));
        features_.normalization_backward(panel.begin + i, row, dot * factor, sum);
        total += dot;
      }
      part_dots[task] = total;
    });
    if (!in_place_) {
      result_.narrow(0, panel.begin, panel.size())
          .copy_(sums_.narrow(0, panel.begin - first, panel.size()));
    }
    return std::accumulate(part_dots, part_dots + parts.count(), 0.0);
  }

 private:
  Features<T>& features_;
  bool needed_, in_place_;
  at::Tensor result_;  // (size, D) of grad_dtype
  at::Tensor sums_;    // (count, D) of T
};

// epilogue(logits, Tile p) -> LogitSums writes a tile of p; `logits` may be the same memory as p.
// Gradients of features are in `grad_dtype`: theirs, or T.
template <typename T, typename Epilogue>
LogitGradientOutputs logit_gradients(const Rectangle& rectangle, double weight_scale,
                                     KeptLogits<T> kept, at::ScalarType grad_dtype, Sides wants,
                                     const Epilogue& epilogue) {
  const double logit_scale = rectangle.logit_scale.item<double>();
  const Blocking blocking(rectangle.M(), rectangle.N());
  const Partition &row_tiles = blocking.rows, &col_tiles = blocking.cols;
  const int64_t panel_tile_rows = std::min(backward_panel_rows(), row_tiles.count());
  const int64_t panel_tile_cols = std::min(kBackwardPanelCols, col_tiles.count());
  const int64_t max_rows = std::min(panel_tile_rows * row_tiles.size(), row_tiles.total());
  const int64_t max_cols = std::min(panel_tile_cols * col_tiles.size(), col_tiles.total());
  Features<T> rows(rectangle.rows, rectangle.normalize, max_rows);
  Features<T> cols(rectangle.cols, rectangle.normalize, max_cols);
  // d logit_scale is a by-product of either side: without any, take the rows.
  GradientSums<T> row_sums(rows, wants.rows || !wants.cols, rows.size(), grad_dtype);
  GradientSums<T> col_sums(cols, wants.cols, max_cols, grad_dtype);
  const at::Tensor panel =
      empty({max_rows, max_cols}, at::TensorOptions(c10::CppTypeToScalarType<T>::value));
  T* const p = panel.data_ptr<T>();
  std::vector<LogitSums> tile_sums(panel_tile_rows * panel_tile_cols);
  LogitSums sums;
  double col_dot = 0.0, row_dot = 0.0;
  const double factor = logit_scale * weight_scale;
  // A product is cut along D only where the panel's sides have fewer tiles than there are threads.
  const int64_t num_sides = panel_tile_rows + panel_tile_cols;
  const int64_t num_cuts = (at::get_num_threads() + num_sides - 1) / num_sides;
  const Partition dims(rows.dim(), std::max<int64_t>(64, rows.dim() / num_cuts));

  for (int64_t c = 0; c < col_tiles.count(); c += panel_tile_cols) {
    const Range panel_cols{c, std::min(c + panel_tile_cols, col_tiles.count())};
    const Range col_span = col_tiles.span(panel_cols);
    const auto col_block = cols.load(col_span);
    for (int64_t r = 0; r < row_tiles.count(); r += panel_tile_rows) {
      const Range panel_rows{r, std::min(r + panel_tile_rows, row_tiles.count())};
      const Range row_span = row_tiles.span(panel_rows);
      const auto row_block = rows.load(row_span);
      const auto p_tile = [&](int64_t i, int64_t j) -> Tile<T> {
        const Range tile_rows = row_tiles[r + i], tile_cols = col_tiles[c + j];
        T* const data = p + (tile_rows.begin - row_span.begin) * col_span.size() +
                        (tile_cols.begin - col_span.begin) * tile_rows.size();
        return {data, tile_rows, tile_cols, i, j};
      };

      const int64_t num_tiles = panel_rows.size() * panel_cols.size();
      for_each_task(num_tiles, [&](int64_t task, int64_t) {
        const Tile<T> tile = p_tile(task / panel_cols.size(), task % panel_cols.size());
        const T* logits = tile.data;
        if (kept.holds(tile.rows)) {
          logits = kept.tile(tile.rows, tile.cols);
        } else {
          tile_logits(row_block, col_block, tile, row_span.begin, col_span.begin, rectangle,
                      logit_scale);
        }
        tile_sums[task] = epilogue(logits, tile);
      });
      sums = std::accumulate(tile_sums.begin(), tile_sums.begin() + num_tiles, sums);

      const auto p_block = [&](int64_t i, int64_t j) -> Block<const T> {
        const Tile<T> tile = p_tile(i, j);
        return {tile.data, tile.rows.size(), tile.cols.size(), tile.cols.size()};
      };
      const auto add_row_products = [&](int64_t i, Range dims) {
        const Range tile_rows = row_tiles[r + i];
        const Block<T> sums = row_sums.rows(tile_rows, 0).columns(dims);
        for (int64_t j = 0; j < panel_cols.size(); ++j) {
          const Block<const T> factor_rows = col_block.slice(col_tiles[c + j], col_span.begin);
          matmul<T>(p_block(i, j), factor_rows.columns(dims), sums, 1.0, c + j > 0);
        }
      };
      const auto add_col_products = [&](int64_t j, Range dims) {
        const Range tile_cols = col_tiles[c + j];
        const Block<T> sums = col_sums.rows(tile_cols, col_span.begin).columns(dims);
        for (int64_t i = 0; i < panel_rows.size(); ++i) {
          const Block<const T> factor_rows = row_block.slice(row_tiles[r + i], row_span.begin);
          matmul<T>(p_block(i, j).transposed(), factor_rows.columns(dims), sums, 1.0, r + i > 0);
        }
      };
      const int64_t num_row_tasks = row_sums.needed() ? panel_rows.size() * dims.count() : 0;
      const int64_t num_col_tasks = col_sums.needed() ? panel_cols.size() * dims.count() : 0;
      for_each_task(num_row_tasks + num_col_tasks, [&](int64_t task, int64_t) {
        if (task < num_row_tasks) {
          add_row_products(task / dims.count(), dims[task % dims.count()]);
        } else {
          task -= num_row_tasks;
          add_col_products(task / dims.count(), dims[task % dims.count()]);
        }
      });
    }
    col_dot += col_sums.finish(col_span, col_span.begin, factor);
  }
  for (int64_t r = 0; r < row_tiles.count(); r += panel_tile_rows) {
    const Range span = row_tiles.span({r, std::min(r + panel_tile_rows, row_tiles.count())});
    row_dot += row_sums.finish(span, 0, factor);
  }
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
    if (!(largest > T(0)) || !std::isfinite(largest)) return;
    scale_ = std::ldexp(1.0, std::ilogb(largest) + 1);
    for (auto& weights : weights_) {
      for (T& weight : weights) weight = static_cast<T>(weight / scale_);
    }
  }

  double scale() const { return scale_; }
  const T* operator[](size_t i) const { return weights_[i].data(); }

 private:
  double scale_ = 1.0;
  std::vector<std::vector<T>> weights_;
};

}  // namespace fastclip::cpu
