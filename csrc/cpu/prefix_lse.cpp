// prefix_lse: contrastive_lse of several prefixes of the features, each normalised by itself, in
// one pass.
//
// Math      prefix_logits.h, lse_epilogue.h
// Tiling    logit_tiles.h; each tile leaves (max, sum) of each prefix (lse_partials.h)
// Cost      2 M N D FLOPs for the longest prefix, and two exponentials per logit of every prefix
// Numerics  logits, statistics in T: float, or double for double features
// Limits    M, N, D >= 1; features in float, double, half or bfloat16, any strides; finite or not
#include "prefix_lse.h"

#include <algorithm>
#include <vector>

#include "arguments.h"
#include "logit_tiles.h"
#include "lse_epilogue.h"
#include "lse_partials.h"
#include "prefix_logits.h"

namespace fastclip::cpu {
namespace {

template <typename T>
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> forward(const Rectangle& rectangle,
                                                                   at::IntArrayRef ends,
                                                                   int64_t kept_rows) {
  const int64_t M = rectangle.M(), N = rectangle.N();
  const auto K = static_cast<int64_t>(ends.size());
  const Blocking blocking(M, N);
  const int64_t panel_rows = kForwardPanelRows * blocking.rows.size();
  const int64_t panel_cols = kForwardPanelCols * blocking.cols.size();
  Features<T> rows(rectangle.rows, true, ends.vec(), panel_rows);
  Features<T> cols(rectangle.cols, true, ends.vec(), panel_cols);
  const PrefixLogits<T> logits(rectangle, rows, cols);

  const at::TensorOptions options(c10::CppTypeToScalarType<T>::value);
  const at::Tensor positive = at::zeros({K, M}, options);
  const at::Tensor maximum = at::full({K, M + N}, kEmpty<T>, options);
  const at::Tensor total = at::zeros({K, M + N}, options);
  const at::Tensor kept = empty({kept_rows, K * N}, options);
  const KeptPrefixes<T> kept_planes(kept.data_ptr<T>(), kept_rows, N, K);
  const TileBuffers<T> buffers(blocking);
  T *const positives = positive.data_ptr<T>(), *const maxima = maximum.data_ptr<T>(),
           *const totals = total.data_ptr<T>();
  std::vector<Partials<T>> row_partials, col_partials;
  for (int64_t k = 0; k < K; ++k) {
    row_partials.emplace_back(std::min(kForwardPanelCols, blocking.cols.count()),
                              std::min(M, panel_rows));
    col_partials.emplace_back(std::min(kForwardPanelRows, blocking.rows.count()),
                              std::min(N, panel_cols));
  }

  for_each_tile<T>(
      rows, cols, blocking,
      [&](const Block<const T>& tile_rows, const Block<const T>& tile_cols, Tile<T> tile,
          int64_t worker) {
        const int64_t m = tile.rows.size(), n = tile.cols.size();
        const bool keep = kept_planes.holds(tile);
        tile.data = keep ? kept_planes.of(tile) : buffers.of(worker);
        const int64_t row = tile.row_index * blocking.rows.size();
        const int64_t col = tile.col_index * blocking.cols.size();
        logits.compute(tile_rows, tile_cols, tile, keep ? m * n : 0,
                       [&](int64_t k, const Tile<T>& of_prefix, const T* pairs) {
                         logits.for_each_pair(of_prefix, [&](int64_t i, int64_t, T&) {
                           positives[k * M + tile.rows.begin + i] = pairs[i];
                         });
                         lse_tile(of_prefix.data, m, n, row_partials[k].max(tile.col_index, row),
                                  row_partials[k].sum(tile.col_index, row),
                                  col_partials[k].max(tile.row_index, col),
                                  col_partials[k].sum(tile.row_index, col));
                       });
      },
      [&](Range row_tiles, Range col_tiles) {
        const Range row_span = blocking.rows.span(row_tiles);
        const Range col_span = blocking.cols.span(col_tiles);
        for (int64_t k = 0; k < K; ++k) {
          T *const max = maxima + k * (M + N), *const sum = totals + k * (M + N);
          row_partials[k].merge_into(max + row_span.begin, sum + row_span.begin, col_tiles.size(),
                                     row_span.size());
          col_partials[k].merge_into(max + M + col_span.begin, sum + M + col_span.begin,
                                     row_tiles.size(), col_span.size());
        }
      });
  // An empty sum is written as 1 with the maximum -inf: its logarithm has a gradient.
  std::replace(totals, totals + K * (M + N), T(0), T(1));
  return {positive, maximum, total, kept.view(at::kByte)};
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> prefix_lse(const Rectangle& rectangle,
                                                                      at::IntArrayRef ends,
                                                                      int64_t kept_rows) {
  const Arguments of("prefix_lse", rectangle);
  of.dims(ends, rectangle.rows.size(1));
  of.kept_rows(kept_rows);
  const auto run = rectangle.is_double() ? forward<double> : forward<float>;
  return run(rectangle, ends, kept_rows);
}

}  // namespace fastclip::cpu
