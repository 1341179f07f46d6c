#pragma once

#include "fragment.cuh"
#include "logit_matrix.h"

namespace fastclip::cuda {

// Of a row's pair; it may lie beyond the matrix, on either side.
FASTCLIP_DEVICE int64_t pair_column(const LogitMatrix& of, int row) { return row + of.pair_offset; }

FASTCLIP_DEVICE bool has_column(const LogitMatrix& of, int64_t col) {
  return col >= 0 && col < of.N;
}

// Of a row: where its pair is, and where the matrix ends, counted from a lane's first column.
// Columns are compared with these by the constants `place_of`: coordinates would take registers.
struct RowMask {
  int pair;
  int end;

  FASTCLIP_DEVICE RowMask(const LogitMatrix& of, int row, int first_col) {
    const int64_t col = pair_column(of, row);
    pair = row < of.M && has_column(of, col) ? static_cast<int>(col) - first_col : -1;
    end = row < of.M ? of.N - first_col : 0;
  }

  // Whether the pair is one of the lane's `cols` columns.
  FASTCLIP_DEVICE bool has_pair(int cols) const {
    return pair >= 0 && pair < 4 * cols && pair % 8 < 2;
  }
};

// Whether a tile has pairs or reaches beyond the matrix: the same for all threads, so that all
// other tiles, nearly all, take a path without masks.
FASTCLIP_DEVICE bool needs_masks(const LogitMatrix& of, int first_row, int first_col, int rows,
                                 int cols) {
  const int64_t pairs = pair_column(of, first_row) - first_col;
  return first_row + rows > of.M || first_col + cols > of.N || (pairs < cols && pairs + rows > 0);
}

}  // namespace fastclip::cuda
