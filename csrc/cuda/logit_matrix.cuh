#pragma once

#include "fragment.cuh"
#include "logit_matrix.h"

namespace fastclip::cuda {

// Of a row's pair; it may lie beyond the matrix, on either side.
FASTCLIP_DEVICE int64_t pair_column(const LogitMatrix& of, int row) { return row + of.pair_offset; }

FASTCLIP_DEVICE bool has_column(const LogitMatrix& of, int64_t col) {
  return col >= 0 && col < of.N;
}

// Of a row: its pair, what it leaves out and where the matrix ends, counted from some column.
struct RowBounds {
  int pair;  // negative where there is none
  int begin = 0, end_of_excluded = 0;
  int end;

  FASTCLIP_DEVICE RowBounds(const LogitMatrix& of, int row, int first_col) {
    const bool inside = row < of.M;
    const int64_t col = pair_column(of, row);
    pair = inside && has_column(of, col) ? static_cast<int>(col) - first_col : -1;
    end = inside ? of.N - first_col : 0;
    if (of.excluded.begin == nullptr || !inside) return;
    // Within the matrix: far beyond it a difference would not fit in 32 bits.
    begin = max(of.excluded.begin[row], 0) - first_col;
    end_of_excluded = min(max(of.excluded.end[row], 0), of.N) - first_col;
  }

  FASTCLIP_DEVICE bool is_negative(int col) const {
    return col < end && col != pair && (col < begin || col >= end_of_excluded);
  }
};

// Of a row: which of a lane's columns are negatives, a bit each, and which one is the pair. Columns
// are asked for by constant numbers: coordinates would take registers.
template <int COLS>
class RowMask {
 public:
  RowMask() = default;

  FASTCLIP_DEVICE RowMask(const LogitMatrix& of, int row, int first_col) {
    const RowBounds bounds(of, row, first_col);
    const int end = columns_before(bounds.end);
    const int begin = columns_before(bounds.begin);
    const int end_of_excluded = columns_before(bounds.end_of_excluded);
    pair_ = bounds.pair;
    const int pair_column = columns_before(pair_);
#pragma unroll
    for (int i = 0; i < WORDS; ++i) {
      const uint32_t excluded = bits_before(end_of_excluded, i) & ~bits_before(begin, i);
      const uint32_t pair =
          has_pair() ? bits_before(pair_column + 1, i) & ~bits_before(pair_column, i) : 0;
      negatives_[i] = bits_before(end, i) & ~(excluded | pair);
    }
  }

  FASTCLIP_DEVICE bool has_pair() const { return pair_ >= 0 && pair_ < SPAN && pair_ % 8 < 2; }
  // By its place: by its number, the compiler would make it an index into accumulators.
  FASTCLIP_DEVICE bool is_pair(int c) const { return place_of(c) == pair_; }
  FASTCLIP_DEVICE bool is_negative(int c) const { return negatives_[c / 32] >> c % 32 & 1; }
  FASTCLIP_DEVICE void leave_out(int c) { negatives_[c / 32] &= ~(1u << c % 32); }

 private:
  static constexpr int WORDS = (COLS + 31) / 32;
  static constexpr int SPAN = 4 * COLS;  // of a lane's columns, with those of its neighbours

  // How many of the lane's columns come before this place, counted from its first one.
  static FASTCLIP_DEVICE int columns_before(int place) {
    const int within = min(max(place, 0), SPAN);
    return within / 8 * 2 + min(within % 8, 2);
  }

  // Of word `i`, the bits of the first columns.
  static FASTCLIP_DEVICE uint32_t bits_before(int c, int i) {
    const int count = min(max(c - 32 * i, 0), 32);
    return count == 0 ? 0 : ~0u >> (32 - count);
  }

  int pair_ = -1;
  uint32_t negatives_[WORDS] = {};
};

// Whether a tile has pairs or reaches beyond the matrix: the same for all threads, so that all
// other tiles, nearly all, take a path without masks.
FASTCLIP_DEVICE bool needs_masks(const LogitMatrix& of, int first_row, int first_col, int rows,
                                 int cols) {
  const int64_t pairs = pair_column(of, first_row) - first_col;
  return first_row + rows > of.M || first_col + cols > of.N || (pairs < cols && pairs + rows > 0);
}

// Whether one of these rows leaves out one of these columns: a warp asks, and has one answer. Where
// rows and columns are in the order of one id, few tiles have such an entry.
FASTCLIP_DEVICE bool leaves_out(const LogitMatrix& of, int first_row, int first_col, int rows,
                                int cols) {
  if (of.excluded.begin == nullptr) return false;
  const int end = min(first_row + rows, of.M);
  bool found = false;
#pragma unroll 1
  for (int row = first_row + threadIdx.x % WARP; row < end; row += WARP)
    found |= max(of.excluded.begin[row], first_col) < min(of.excluded.end[row], first_col + cols);
  return any_of_warp(found);
}

}  // namespace fastclip::cuda
