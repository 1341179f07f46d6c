// The walk over a rectangle of logits that every primitive's forward makes.
//
// Tiling
//   A panel is 16 x 8 tiles (4096 x 4096 logits). Within a panel each tile is one task: a product
//   into memory that stays in the core's cache, -inf in what its rows leave out, then the
//   primitive's epilogue on it. Between panels the primitive merges what the panel's tiles left
//   behind, in a fixed order.
//
// Cost
//   2 M N D FLOPs. Memory: one tile per thread, partial results of one panel, and `kept`.
//   Intervals: two numbers of each row of a tile, and a write of what is left out in it.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "blocking.h"
#include "features.h"
#include "matmul.h"
#include "rectangle.h"
#include "scratch.h"

namespace fastclip::cpu {

template <typename T>
struct Tile {
  T* data;                       // rows.size() x cols.size(), row-major, contiguous
  Range rows, cols;              // of the rectangle
  int64_t row_index, col_index;  // of the tile within its panel

  // Where row i's pair is, counted from the tile's first column; it may lie outside of the tile.
  int64_t pair_from(int64_t i, Diagonal positives) const {
    return positives.column(rows.begin + i) - cols.begin;
  }

  // The same within the tile, -1 if the pair is elsewhere or nowhere.
  int64_t pair(int64_t i, Diagonal positives) const {
    const int64_t j = pair_from(i, positives);
    return 0 <= j && j < cols.size() ? j : -1;
  }
};

// Sets to `value` what the rows of a tile leave out, which its pairs are not of.
template <typename T>
void leave_out(const Tile<T>& tile, const Rectangle& rectangle, T value) {
  const auto& [begin, end] = rectangle.excluded;
  if (!begin) return;
  const int32_t* const begins = begin->const_data_ptr<int32_t>() + tile.rows.begin;
  const int32_t* const ends = end->const_data_ptr<int32_t>() + tile.rows.begin;
  for (int64_t i = 0; i < tile.rows.size(); ++i) {
    const int64_t first = std::max<int64_t>(begins[i] - tile.cols.begin, 0);
    const int64_t last = std::min<int64_t>(ends[i] - tile.cols.begin, tile.cols.size());
    if (first >= last) continue;
    T* const row = tile.data + i * tile.cols.size();
    const int64_t pair = tile.pair(i, rectangle.positives);
    const T of_pair = pair < 0 ? value : row[pair];
    std::fill(row + first, row + last, value);
    if (pair >= 0) row[pair] = of_pair;
  }
}

// Logits kept by the forward for the backward, for the first `rows` rows of the rectangle; tile by
// tile, so that a tile is contiguous and no power-of-two stride maps its rows to one cache set.
template <typename T>
struct KeptLogits {
  T* data;
  int64_t rows, num_cols;

  bool holds(Range tile_rows) const { return tile_rows.end <= rows; }
  T* tile(Range tile_rows, Range tile_cols) const {
    return data + tile_rows.begin * num_cols + tile_cols.begin * tile_rows.size();
  }
};

// Of bytes that a forward returned.
template <typename T>
KeptLogits<T> kept_logits(const at::Tensor& kept, int64_t num_cols) {
  return {static_cast<T*>(const_cast<void*>(kept.const_data_ptr())), kept.size(0), num_cols};
}

inline constexpr int64_t kForwardPanelRows = 16, kForwardPanelCols = 8;  // in tiles

// Calls visit(rows, cols, Tile, worker) for every tile of a panel, which has no data yet; `rows` and
// `cols` are its features. Then merge(row tiles, col tiles), per panel.
template <typename T, typename Visit, typename Merge>
void for_each_tile(Features<T>& row_features, Features<T>& col_features, const Blocking& blocking,
                   const Visit& visit, const Merge& merge) {
  const Partition &row_tiles = blocking.rows, &col_tiles = blocking.cols;
  for (int64_t c = 0; c < col_tiles.count(); c += kForwardPanelCols) {
    const Range panel_cols{c, std::min(c + kForwardPanelCols, col_tiles.count())};
    const Range col_span = col_tiles.span(panel_cols);
    const auto cols = col_features.load(col_span);
    for (int64_t r = 0; r < row_tiles.count(); r += kForwardPanelRows) {
      const Range panel_rows{r, std::min(r + kForwardPanelRows, row_tiles.count())};
      const Range row_span = row_tiles.span(panel_rows);
      const auto rows = row_features.load(row_span);
      for_each_task(panel_rows.size() * panel_cols.size(), [&](int64_t task, int64_t worker) {
        Tile<T> tile;
        tile.row_index = task / panel_cols.size();
        tile.col_index = task % panel_cols.size();
        tile.rows = row_tiles[r + tile.row_index];
        tile.cols = col_tiles[c + tile.col_index];
        visit(rows.slice(tile.rows, row_span.begin), cols.slice(tile.cols, col_span.begin), tile,
              worker);
      });
      merge(panel_rows, panel_cols);
    }
  }
}

// Memory for a tile of every thread at work.
template <typename T>
class TileBuffers {
 public:
  explicit TileBuffers(const Blocking& blocking)
      : numel_(blocking.rows.size() * blocking.cols.size()),
        buffers_(empty({max_workers(blocking.rows.count() * blocking.cols.count()), numel_},
                       c10::CppTypeToScalarType<T>::value)),
        data_(buffers_.data_ptr<T>()) {}

  T* of(int64_t worker) const { return data_ + worker * numel_; }

 private:
  int64_t numel_;
  at::Tensor buffers_;
  T* data_;
};

// Calls epilogue(Tile) for every tile of the panel, then merge(row tiles, col tiles), per panel.
template <typename T, typename Epilogue, typename Merge>
void for_each_logit_tile(Features<T>& row_features, Features<T>& col_features,
                         const Blocking& blocking, const Rectangle& rectangle, KeptLogits<T> kept,
                         const Epilogue& epilogue, const Merge& merge) {
  const double logit_scale = rectangle.logit_scale.item<double>();
  const TileBuffers<T> buffers(blocking);
  for_each_tile<T>(
      row_features, col_features, blocking,
      [&](const Block<const T>& rows, const Block<const T>& cols, Tile<T> tile, int64_t worker) {
        tile.data = kept.holds(tile.rows) ? kept.tile(tile.rows, tile.cols) : buffers.of(worker);
        tile_logits(rows, cols, tile, rectangle, logit_scale);
        epilogue(tile);
      },
      merge);
}

// tile = logit_scale rows cols^T, added to what is in it if `accumulate`.
template <typename T>
void multiply(const Block<const T>& rows, const Block<const T>& cols, const Tile<T>& tile,
              double logit_scale, bool accumulate) {
  matmul<T>(rows, cols.transposed(),
            {tile.data, tile.rows.size(), tile.cols.size(), tile.cols.size()}, logit_scale,
            accumulate);
  // A factor of nan is dropped by the matrix library.
  if (std::isnan(logit_scale)) {
    std::fill_n(tile.data, tile.rows.size() * tile.cols.size(), static_cast<T>(logit_scale));
  }
}

// tile = logit_scale rows cols^T, -inf in what is left out.
template <typename T>
void tile_logits(const Block<const T>& rows, const Block<const T>& cols, const Tile<T>& tile,
                 const Rectangle& rectangle, double logit_scale) {
  multiply(rows, cols, tile, logit_scale, false);
  leave_out(tile, rectangle, -std::numeric_limits<T>::infinity());
}

}  // namespace fastclip::cpu
