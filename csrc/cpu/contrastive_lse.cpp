// contrastive_lse: maxima and sums of exponentials of the negatives, for rows and columns at once.
//
// Math      fastclip/backends/reference.py
// Tiling    logit_tiles.h; each tile leaves (max, sum) for its rows and its columns, merged in the
//           order of the tiles by  max' = max(a, b);  sum' = sum_a e^(a - max') + sum_b e^(b - max')
// Cost      2 M N D FLOPs and two exponentials per logit
// Numerics  logits, statistics in T: float, or double for double features
#include "contrastive_lse.h"

#include <cmath>
#include <limits>

#include "logit_tiles.h"
#include "lse_epilogue.h"

namespace fastclip::cpu {
namespace {

// (max, sum) of `count` rows or columns, one plane for each tile that saw them.
template <typename T>
class Statistics {
 public:
  static constexpr T kEmpty = -std::numeric_limits<T>::infinity();

  Statistics(int64_t num_planes, int64_t count)
      : count_(count),
        max_(empty({num_planes, count}, options())),
        sum_(empty({num_planes, count}, options())) {}

  static at::TensorOptions options() {
    return at::TensorOptions(c10::CppTypeToScalarType<T>::value);
  }
  T* max(int64_t plane, int64_t i) { return max_.template data_ptr<T>() + plane * count_ + i; }
  T* sum(int64_t plane, int64_t i) { return sum_.template data_ptr<T>() + plane * count_ + i; }
  const at::Tensor& max_tensor() const { return max_; }
  const at::Tensor& sum_tensor() const { return sum_; }

  void clear() {
    max_.fill_(kEmpty);
    sum_.zero_();
  }

  // Adds `num_planes` planes of `partial` to plane 0 here, from row or column `begin` on.
  void merge(Statistics& partial, int64_t num_planes, int64_t begin, int64_t count) {
    const Partition parts(count, 1024);
    for_each_task(parts.count(), [&](int64_t task, int64_t) {
      for (int64_t i = parts[task].begin; i < parts[task].end; ++i) {
        T& total_max = *max(0, begin + i);
        T& total_sum = *sum(0, begin + i);
        for (int64_t plane = 0; plane < num_planes; ++plane) {
          add(*partial.max(plane, i), *partial.sum(plane, i), total_max, total_sum);
        }
      }
    });
  }

  // An empty sum is written as 1 with the maximum -inf: its logarithm has a gradient.
  void finish() { sum_.masked_fill_(sum_ == 0.0, 1.0); }

 private:
  static void add(T max, T sum, T& total_max, T& total_sum) {
    if (max == kEmpty && !std::isnan(sum)) return;
    if (max > total_max) {
      total_sum = total_sum * std::exp(total_max - max) + sum;
      total_max = max;
    } else {
      total_sum += sum * std::exp(max - total_max);
    }
  }

  int64_t count_;
  at::Tensor max_, sum_;  // (num_planes, count)
};

template <typename T>
LseOutputs forward(const at::Tensor& row_features, const at::Tensor& col_features,
                   double logit_scale, int64_t positive_offset, bool normalize,
                   int64_t kept_rows) {
  const Blocking blocking(row_features.size(0), col_features.size(0));
  const int64_t panel_rows = kForwardPanelRows * blocking.rows.size();
  const int64_t panel_cols = kForwardPanelCols * blocking.cols.size();
  Features<T> rows(row_features, normalize, panel_rows), cols(col_features, normalize, panel_cols);
  const int64_t M = rows.size(), N = cols.size();

  const auto options = Statistics<T>::options();
  at::Tensor positive = at::zeros({M}, options);
  at::Tensor kept = empty({kept_rows, N}, options);
  T* const positives = positive.data_ptr<T>();
  Statistics<T> row_stats(1, M), col_stats(1, N);
  row_stats.clear();
  col_stats.clear();
  Statistics<T> row_partials(kForwardPanelCols, std::min(M, panel_rows));
  Statistics<T> col_partials(kForwardPanelRows, std::min(N, panel_cols));

  for_each_logit_tile<T>(
      rows, cols, blocking, logit_scale, {kept.data_ptr<T>(), kept_rows, N},
      [&](const Tile<T>& tile) {
        for (int64_t i = 0; i < tile.rows.size(); ++i) {
          const int64_t j = tile.pair(i, positive_offset);
          if (j < 0) continue;
          T& logit = tile.data[i * tile.cols.size() + j];
          positives[tile.rows.begin + i] = logit;
          logit = Statistics<T>::kEmpty;
        }
        const int64_t row = tile.row_index * blocking.rows.size();
        const int64_t col = tile.col_index * blocking.cols.size();
        lse_tile(tile.data, tile.rows.size(), tile.cols.size(),
                 row_partials.max(tile.col_index, row), row_partials.sum(tile.col_index, row),
                 col_partials.max(tile.row_index, col), col_partials.sum(tile.row_index, col));
      },
      [&](Range row_tiles, Range col_tiles) {
        const Range row_span = blocking.rows.span(row_tiles);
        const Range col_span = blocking.cols.span(col_tiles);
        row_stats.merge(row_partials, col_tiles.size(), row_span.begin, row_span.size());
        col_stats.merge(col_partials, row_tiles.size(), col_span.begin, col_span.size());
      });
  row_stats.finish();
  col_stats.finish();
  return {positive,
          row_stats.max_tensor().squeeze(0),
          row_stats.sum_tensor().squeeze(0),
          col_stats.max_tensor().squeeze(0),
          col_stats.sum_tensor().squeeze(0),
          kept};
}

}  // namespace

LseOutputs contrastive_lse(const at::Tensor& row_features, const at::Tensor& col_features,
                           const at::Tensor& logit_scale, int64_t positive_offset, bool normalize,
                           int64_t kept_rows) {
  const auto run = row_features.scalar_type() == at::kDouble ? forward<double> : forward<float>;
  return run(row_features, col_features, logit_scale.item<double>(), positive_offset, normalize,
             kept_rows);
}

}  // namespace fastclip::cpu
