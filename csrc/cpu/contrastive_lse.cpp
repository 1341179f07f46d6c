// contrastive_lse: maxima and sums of exponentials of the negatives, for rows and columns at once.
//
// Math      fastclip/backends/reference.py
// Tiling    logit_tiles.h; each tile leaves (max, sum) for its rows and columns (lse_partials.h)
// Cost      2 M N D FLOPs and two exponentials per logit; each tile is read twice, in cache
// Numerics  logits, statistics in T: float, or double for double features
// Limits    M, N, D >= 1; features in float, double, half or bfloat16, any strides; finite or not
#include "contrastive_lse.h"

#include <algorithm>

#include "arguments.h"
#include "logit_tiles.h"
#include "lse_epilogue.h"
#include "lse_partials.h"

namespace fastclip::cpu {
namespace {

template <typename T>
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> forward(const Rectangle& rectangle,
                                                                   int64_t kept_rows) {
  const int64_t M = rectangle.M(), N = rectangle.N();
  const Blocking blocking(M, N);
  const int64_t panel_rows = kForwardPanelRows * blocking.rows.size();
  const int64_t panel_cols = kForwardPanelCols * blocking.cols.size();
  Features<T> rows(rectangle.rows, rectangle.normalize, panel_rows);
  Features<T> cols(rectangle.cols, rectangle.normalize, panel_cols);

  const at::TensorOptions options(c10::CppTypeToScalarType<T>::value);
  const at::Tensor positive = at::zeros({M}, options), kept = empty({kept_rows, N}, options);
  const at::Tensor maximum = at::full({M + N}, kEmpty<T>, options);
  const at::Tensor total = at::zeros({M + N}, options);
  T* const positives = positive.data_ptr<T>();
  T *const row_max = maximum.data_ptr<T>(), *const col_max = row_max + M;
  T *const row_sum = total.data_ptr<T>(), *const col_sum = row_sum + M;
  Partials<T> row_partials(std::min(kForwardPanelCols, blocking.cols.count()),
                           std::min(M, panel_rows));
  Partials<T> col_partials(std::min(kForwardPanelRows, blocking.rows.count()),
                           std::min(N, panel_cols));

  for_each_logit_tile<T>(
      rows, cols, blocking, rectangle, {kept.data_ptr<T>(), kept_rows, N},
      [&](const Tile<T>& tile) {
        for (int64_t i = 0; i < tile.rows.size(); ++i) {
          const int64_t j = tile.pair(i, rectangle.positives);
          if (j < 0) continue;
          T& logit = tile.data[i * tile.cols.size() + j];
          positives[tile.rows.begin + i] = logit;
          logit = kEmpty<T>;
        }
        const int64_t row = tile.row_index * blocking.rows.size();
        const int64_t col = tile.col_index * blocking.cols.size();
        lse_tile(tile.data, tile.rows.size(), tile.cols.size(),
                 row_partials.max(tile.col_index, row), row_partials.sum(tile.col_index, row),
                 col_partials.max(tile.row_index, col), col_partials.sum(tile.row_index, col));
      },
      [&](Range row_tiles, Range col_tiles) {
        const Range rows = blocking.rows.span(row_tiles), cols = blocking.cols.span(col_tiles);
        row_partials.merge_into(row_max + rows.begin, row_sum + rows.begin, col_tiles.size(),
                                rows.size());
        col_partials.merge_into(col_max + cols.begin, col_sum + cols.begin, row_tiles.size(),
                                cols.size());
      });
  // An empty sum is written as 1 with the maximum -inf: its logarithm has a gradient.
  std::replace(row_sum, row_sum + M + N, T(0), T(1));
  return {positive, maximum, total, kept.view(at::kByte)};
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> contrastive_lse(
    const Rectangle& rectangle, int64_t kept_rows) {
  const Arguments of("contrastive_lse", rectangle);
  of.kept_rows(kept_rows);
  const auto run = rectangle.is_double() ? forward<double> : forward<float>;
  return run(rectangle, kept_rows);
}

}  // namespace fastclip::cpu
