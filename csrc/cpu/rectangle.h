// What a primitive is asked for, as in fastclip/rectangle.py: a rectangle of logits and its pairs.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

namespace fastclip::cpu {

// The pairs: row i and column i + offset, wherever there is such a column.
struct Diagonal {
  int64_t offset = 0;

  // Of a row's pair; it may lie beyond the rectangle, on either side.
  int64_t column(int64_t row) const { return row + offset; }
};

// The columns that a row does not see, nor they the row: begin_i <= j < end_i, which may be none or
// reach beyond the rectangle. A pair in there stays a pair.
struct Interval {
  std::optional<at::Tensor> begin, end;  // (M) int32, contiguous; both or none
};

struct Rectangle {
  at::Tensor rows;         // (M, D)
  at::Tensor cols;         // (N, D)
  at::Tensor logit_scale;  // ()
  Interval excluded;
  Diagonal positives;
  bool normalize;

  int64_t M() const { return rows.size(0); }
  int64_t N() const { return cols.size(0); }
  // Logits and statistics are in double for double features, in float for all others.
  bool is_double() const { return rows.scalar_type() == at::kDouble; }
};

// Whose gradients are wanted.
struct Sides {
  bool rows, cols;
};

}  // namespace fastclip::cpu
