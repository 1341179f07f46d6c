// What the operators ask of their arguments, a line each, before any memory is read: called by
// their names they get anything. fastclip/ops/arguments.py asks the same for the other backends.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "rectangle.h"

namespace fastclip::cpu {

// The checked rectangle of a call, and checks of what goes with it. Every check raises a ValueError
// that names the operator and the argument.
class Arguments {
 public:
  // Rows (M, D) and columns (N, D) have one floating dtype, any strides.
  Arguments(const char* op, const Rectangle& rectangle);

  int64_t M() const { return M_; }
  int64_t N() const { return N_; }

  void square() const;
  // Those in T, the dtype of logits: () or (length), contiguous.
  void scalar(const char* name, const at::Tensor& value) const { values(name, value, {}, dtype_); }
  void vector(const char* name, const at::Tensor& value, int64_t length) const {
    values(name, value, {length}, dtype_);
  }
  void matrix(const char* name, const at::Tensor& value, int64_t rows, int64_t length) const {
    values(name, value, {rows, length}, dtype_);
  }
  void dims(at::IntArrayRef dims, int64_t D) const;  // of prefixes: ascending, the last one is D
  void grad_dtype(at::ScalarType dtype) const;       // that of the features, or T
  void kept_rows(int64_t rows) const;
  // (rows, N logits of each prefix), as bytes
  void kept(const at::Tensor& value, int64_t num_prefixes = 1) const;

 private:
  void features(const char* name, const at::Tensor& value) const;
  void pairs(Diagonal positives) const;
  void interval(const Interval& excluded) const;
  void values(const char* name, const at::Tensor& value, at::IntArrayRef sizes,
              at::ScalarType dtype) const;

  const char* op_;
  int64_t M_, N_;
  at::ScalarType features_dtype_, dtype_;  // the latter is T
};

}  // namespace fastclip::cpu
