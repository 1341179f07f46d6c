// The logits of every prefix of the features in one tile, one prefix after the other.
//
// Math
//   With x_b, y_b the blocks of columns, each divided by the norm of the prefix that ends with it
//   (features.h), and r_b, c_b the norms of that prefix over those of the next one,
//     S_0 = s x_0 y_0^T,    S_b+1 = (r_b c_b^T) S_b + s x_b+1 y_b+1^T
//   Every S_b is a matrix of logits, and no number is beyond their range, whatever the norms are.
//
// Cost
//   2 m n D FLOPs for all prefixes, and a pass over the tile for each but the first.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "features.h"
#include "logit_tiles.h"
#include "prefix_epilogue.h"
#include "rectangle.h"

namespace fastclip::cpu {

// Of one side: the norm of a prefix over that of the next one.
template <typename T>
class NormRatios {
 public:
  explicit NormRatios(const Features<T>& features) : size_(features.size()) {
    for (int64_t b = 0; b + 1 < features.num_blocks(); ++b) {
      for (int64_t i = 0; i < size_; ++i) {
        ratios_.push_back(static_cast<T>(features.norm(i, b) / features.norm(i, b + 1)));
      }
    }
  }

  const T* of(int64_t block, int64_t row) const { return ratios_.data() + block * size_ + row; }

 private:
  int64_t size_;
  std::vector<T> ratios_;  // (blocks - 1, size)
};

template <typename T>
class PrefixLogits {
 public:
  PrefixLogits(const Rectangle& rectangle, const Features<T>& rows, const Features<T>& cols)
      : rows_(rows),
        row_ratios_(rows),
        col_ratios_(cols),
        positives_(rectangle.positives),
        logit_scale_(rectangle.logit_scale.template item<double>()) {}

  int64_t num_prefixes() const { return rows_.num_blocks(); }
  const NormRatios<T>& row_ratios() const { return row_ratios_; }
  const NormRatios<T>& col_ratios() const { return col_ratios_; }

  // Writes the logits of prefix b to tile.data + b * stride, with -inf for the pairs, whose logits
  // are pairs[i], and calls epilogue(b, tile, pairs). With a stride of 0 the last ones remain.
  template <typename Epilogue>
  void compute(const Block<const T>& rows, const Block<const T>& cols, Tile<T> tile, int64_t stride,
               const Epilogue& epilogue) const {
    const int64_t m = tile.rows.size(), n = tile.cols.size();
    std::vector<T> pairs(m, T(0));
    for (int64_t b = 0; b < num_prefixes(); ++b) {
      if (b > 0) {
        const T* const row_ratio = row_ratios_.of(b - 1, tile.rows.begin);
        const T* const col_ratio = col_ratios_.of(b - 1, tile.cols.begin);
        const T* const shorter = tile.data;
        tile.data += stride;
        rescale_tile(shorter, m, n, row_ratio, col_ratio, tile.data);
        for_each_pair(tile, [&](int64_t i, int64_t j, T& logit) {
          logit = pairs[i] * (row_ratio[i] * col_ratio[j]);
        });
      }
      const Range block = rows_.block(b);
      multiply(rows.columns(block), cols.columns(block), tile, logit_scale_, b > 0);
      for_each_pair(tile, [&](int64_t i, int64_t, T& logit) {
        pairs[i] = logit;
        logit = -std::numeric_limits<T>::infinity();
      });
      epilogue(b, tile, pairs.data());
    }
  }

  // Calls visit(i, j, entry) for the pairs in a tile.
  template <typename Visit>
  void for_each_pair(const Tile<T>& tile, const Visit& visit) const {
    for (int64_t i = 0; i < tile.rows.size(); ++i) {
      const int64_t j = tile.pair(i, positives_);
      if (j >= 0) visit(i, j, tile.data[i * tile.cols.size() + j]);
    }
  }

 private:
  const Features<T>& rows_;
  const NormRatios<T> row_ratios_, col_ratios_;
  const Diagonal positives_;
  const double logit_scale_;
};

// The logits of all prefixes that a forward kept, tile by tile, and in a tile prefix by prefix.
template <typename T>
class KeptPrefixes {
 public:
  KeptPrefixes(T* data, int64_t kept_rows, int64_t num_cols, int64_t num_prefixes)
      : kept_{data, kept_rows, num_cols * num_prefixes}, num_prefixes_(num_prefixes) {}

  bool holds(const Tile<T>& tile) const { return kept_.holds(tile.rows); }
  T* of(const Tile<T>& tile) const {
    return kept_.tile(tile.rows, {tile.cols.begin * num_prefixes_, tile.cols.end * num_prefixes_});
  }

 private:
  KeptLogits<T> kept_;
  int64_t num_prefixes_;
};

}  // namespace fastclip::cpu
