// Products of gradients of logits with features, summed over a rectangle: the walk of a backward.
//
// Math
//   a_b = p_b col_b,  b_b = p_b^T row_b  for every block b of columns of the features; one matrix p_b
//   of gradients for each block.
//
// Tiling
//   A panel is some rows of tiles of p by some columns of them. For each panel, two parallel phases:
//   every tile is a task, which writes all of its p_b; then every block of every tile row of `a` and
//   tile column of `b` is one, each written by one task in a fixed order. No copy of a gradient per
//   thread, no atomics.
//
// Cost
//   4 M N D FLOPs. Memory: the panel of each p_b; for features that are not in the compute type
//   buffers for one panel and, where their gradient is not either, one accumulator for all rows.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gradient_sums.h"
#include "logit_tiles.h"
#include "rectangle.h"

namespace fastclip::cpu {

inline int64_t backward_panel_rows() { return at::get_num_threads() > 16 ? 8 : 2; }
inline constexpr int64_t kBackwardPanelCols = 8;

// A panel, in tiles of a rectangle and in its rows and columns.
struct GradientPanels {
  const Blocking blocking;
  const int64_t tile_rows, tile_cols, max_rows, max_cols;

  GradientPanels(const Rectangle& rectangle, int64_t largest_cols = kBackwardPanelCols)
      : blocking(rectangle.M(), rectangle.N()),
        tile_rows(std::min(backward_panel_rows(), blocking.rows.count())),
        tile_cols(std::min(largest_cols, blocking.cols.count())),
        max_rows(std::min(tile_rows * blocking.rows.size(), rectangle.M())),
        max_cols(std::min(tile_cols * blocking.cols.size(), rectangle.N())) {}
};

// The matrices p_b of a panel, as its tasks see them.
template <typename T>
struct GradientTile {
  Tile<T> first;   // of block 0
  int64_t stride;  // from a block's to the next

  Tile<T> of(int64_t block) const {
    Tile<T> tile = first;
    tile.data += block * stride;
    return tile;
  }
};

// Calls write(rows, cols, GradientTile) for every tile of a panel, `rows` and `cols` being its
// features; written(row tiles, col tiles) when those of a panel are; and
// finish_cols(range) when the sums of these columns are complete. Those of rows are at the end.
template <typename T, typename Write, typename Written, typename FinishCols>
void sum_products(Features<T>& rows, Features<T>& cols, const GradientPanels& panels,
                  GradientSums<T>& row_sums, GradientSums<T>& col_sums, const Write& write,
                  const Written& written, const FinishCols& finish_cols) {
  const Partition &row_tiles = panels.blocking.rows, &col_tiles = panels.blocking.cols;
  const int64_t stride = panels.max_rows * panels.max_cols;
  const at::Tensor panel = empty({rows.num_blocks(), stride}, c10::CppTypeToScalarType<T>::value);
  T* const p = panel.data_ptr<T>();
  // A product is cut along D only where the panel's sides have fewer tiles than there are threads.
  const int64_t num_sides = panels.tile_rows + panels.tile_cols;
  const int64_t num_cuts = (at::get_num_threads() + num_sides - 1) / num_sides;
  struct Cut {
    int64_t block;
    Range columns;
  };
  std::vector<Cut> cuts;
  for (int64_t b = 0; b < rows.num_blocks(); ++b) {
    const Range block = rows.block(b);
    const Partition parts(block.size(), std::max<int64_t>(64, block.size() / num_cuts));
    for (int64_t i = 0; i < parts.count(); ++i) {
      cuts.push_back({b, {block.begin + parts[i].begin, block.begin + parts[i].end}});
    }
  }
  const auto num_parts = static_cast<int64_t>(cuts.size());

  for (int64_t c = 0; c < col_tiles.count(); c += panels.tile_cols) {
    const Range panel_cols{c, std::min(c + panels.tile_cols, col_tiles.count())};
    const Range col_span = col_tiles.span(panel_cols);
    const auto col_block = cols.load(col_span);
    for (int64_t r = 0; r < row_tiles.count(); r += panels.tile_rows) {
      const Range panel_rows{r, std::min(r + panels.tile_rows, row_tiles.count())};
      const Range row_span = row_tiles.span(panel_rows);
      const auto row_block = rows.load(row_span);
      const auto p_tile = [&](int64_t i, int64_t j) -> GradientTile<T> {
        const Range tile_rows = row_tiles[r + i], tile_cols = col_tiles[c + j];
        T* const data = p + (tile_rows.begin - row_span.begin) * col_span.size() +
                        (tile_cols.begin - col_span.begin) * tile_rows.size();
        return {{data, tile_rows, tile_cols, i, j}, stride};
      };

      for_each_task(panel_rows.size() * panel_cols.size(), [&](int64_t task, int64_t) {
        const auto tile = p_tile(task / panel_cols.size(), task % panel_cols.size());
        write(row_block.slice(tile.first.rows, row_span.begin),
              col_block.slice(tile.first.cols, col_span.begin), tile);
      });
      written(panel_rows, panel_cols);

      const auto p_block = [&](int64_t i, int64_t j, int64_t block) -> Block<const T> {
        const Tile<T> tile = p_tile(i, j).of(block);
        return {tile.data, tile.rows.size(), tile.cols.size(), tile.cols.size()};
      };
      const auto add_row_products = [&](int64_t i, const Cut& cut) {
        const Range tile_rows = row_tiles[r + i];
        const Block<T> sums = row_sums.rows(tile_rows, 0).columns(cut.columns);
        for (int64_t j = 0; j < panel_cols.size(); ++j) {
          const Block<const T> factor_rows = col_block.slice(col_tiles[c + j], col_span.begin);
          matmul<T>(p_block(i, j, cut.block), factor_rows.columns(cut.columns), sums, 1.0,
                    c + j > 0);
        }
      };
      const auto add_col_products = [&](int64_t j, const Cut& cut) {
        const Range tile_cols = col_tiles[c + j];
        const Block<T> sums = col_sums.rows(tile_cols, col_span.begin).columns(cut.columns);
        for (int64_t i = 0; i < panel_rows.size(); ++i) {
          const Block<const T> factor_rows = row_block.slice(row_tiles[r + i], row_span.begin);
          matmul<T>(p_block(i, j, cut.block).transposed(), factor_rows.columns(cut.columns), sums,
                    1.0, r + i > 0);
        }
      };
      const int64_t num_row_tasks = row_sums.needed() ? panel_rows.size() * num_parts : 0;
      const int64_t num_col_tasks = col_sums.needed() ? panel_cols.size() * num_parts : 0;
      for_each_task(num_row_tasks + num_col_tasks, [&](int64_t task, int64_t) {
        if (task < num_row_tasks) {
          add_row_products(task / num_parts, cuts[task % num_parts]);
        } else {
          task -= num_row_tasks;
          add_col_products(task / num_parts, cuts[task % num_parts]);
        }
      });
    }
    finish_cols(col_span);
  }
}

// Calls finish(range) for all rows of a backward whose products are summed, a panel at a time.
template <typename Finish>
void for_each_row_panel(const GradientPanels& panels, const Finish& finish) {
  const Partition& tiles = panels.blocking.rows;
  for (int64_t r = 0; r < tiles.count(); r += panels.tile_rows) {
    finish(tiles.span({r, std::min(r + panels.tile_rows, tiles.count())}));
  }
}

}  // namespace fastclip::cpu
