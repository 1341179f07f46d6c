// What the forward does to a thread's logits, on every architecture.
//
// Math
//   e_ij  = 2^(unit acc_ij - shift) for negatives, 0 for pairs, what is left out and outside of the
//           matrix
//   over_cols_i = sum of e_ij over the thread's columns;  over_rows_j = sum over its rows
//   MAXIMUM: the same with logits instead of e, largest instead of sum, -inf instead of 0;
//            and positive_i = unit acc_{i, i + offset} ln 2 again
//   KEPT:    the logits of the first kept_rows rows are stored too, as multiples of `step`
#pragma once

#include "fragment.cuh"
#include "logit_matrix.cuh"
#include "negative_sums.h"
#include "scalars.h"

namespace fastclip::cuda {

// Added to a small float32, it leaves the nearest integer in the low bits of the sum.
constexpr float ROUNDING = 0x1.8p23f;

template <typename Fragment, bool MAXIMUM, Kept KEPT>
class SumsOfThread {
 public:
  static constexpr int ROWS = Fragment::ROWS, COLS = Fragment::COLS;

  FASTCLIP_DEVICE explicit SumsOfThread(const NegativeSums& of)
      : of_(of), unit_(of.scalars[UNIT]), shift_(of.scalars[SHIFT]) {
    if constexpr (KEPT == Kept::INT16) levels_ = unit_ / of.scalars[STEP];
#pragma unroll
    for (int c = 0; c < COLS; ++c) over_rows[c] = neutral();
  }

  // The warp's part of a tile begins at (row, col); `masked`: the whole tile needs masks.
  FASTCLIP_DEVICE void add(const Fragment& logits, int row, int col, bool masked,
                           float (&over_cols)[ROWS]) {
    if constexpr (KEPT != Kept::NOTHING) {
      if (row < of_.kept_rows) keep(logits, row, col);
    }
    if (masked || leaves_out(of_.matrix, row, col, Fragment::WARP_ROWS, Fragment::WARP_COLS))
      add_tile<true>(logits, row, col, over_cols);
    else
      add_tile<false>(logits, row, col, over_cols);
  }

  static FASTCLIP_DEVICE float neutral() { return MAXIMUM ? -INFINITY : 0.0f; }

  static FASTCLIP_DEVICE float merged(float a, float b) { return MAXIMUM ? fmaxf(a, b) : a + b; }

  float over_rows[COLS];

 private:
  template <bool MASKED>
  FASTCLIP_DEVICE void add_tile(const Fragment& logits, int row, int col,
                                float (&over_cols)[ROWS]) {
    const int first = col + col_of(0);
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const int i = row + row_of(r);
      RowMask<COLS> mask;
      if constexpr (MASKED) mask = RowMask<COLS>(of_.matrix, i, first);
      float own = 0.0f;
      over_cols[r] = neutral();
#pragma unroll
      for (int c = 0; c < COLS; ++c) {
        const float acc = logits.at(r, c);
        float value = MAXIMUM ? acc * unit_ : exp2_approx(fmaf(acc, unit_, -shift_));
        if constexpr (MASKED) {
          if (MAXIMUM && mask.is_pair(c)) own = acc;
          if (!mask.is_negative(c)) value = neutral();
        }
        over_cols[r] = merged(over_cols[r], value);
        over_rows[c] = merged(over_rows[c], value);
      }
      if (MASKED && MAXIMUM && mask.has_pair()) of_.positive[i] = own * unit_ * LN_2;
    }
  }

  FASTCLIP_DEVICE void keep(const Fragment& logits, int row, int col) const {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const int i = row + row_of(r);
      if (i >= of_.kept_rows) continue;
#pragma unroll
      for (int c = 0; c < COLS; c += 2) {
        const int j = col + col_of(c);
        if (j >= of_.matrix.N) continue;  // a row has room for its neighbour
        const int64_t at = int64_t{i} * of_.kept_stride + j;
        const float first = logits.at(r, c), second = logits.at(r, c + 1);
        if constexpr (KEPT == Kept::INT16) {
          const uint32_t low = __float_as_int(fmaf(first, levels_, ROUNDING));
          const uint32_t high = __float_as_int(fmaf(second, levels_, ROUNDING));
          *reinterpret_cast<uint32_t*>(static_cast<int16_t*>(of_.kept) + at) =
              (low & 0xffffu) | high << 16;
        } else {
          *reinterpret_cast<float2*>(static_cast<float*>(of_.kept) + at) =
              float2{first * unit_, second * unit_};
        }
      }
    }
  }

  const NegativeSums& of_;
  float unit_, shift_, levels_ = 0.0f;
};

}  // namespace fastclip::cuda
