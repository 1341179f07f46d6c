// Products of row-major blocks through the matrix library that torch carries.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>

#include <cstdint>

#include "blocking.h"

namespace fastclip::cpu {

// A block of a row-major matrix; `transposed()` is the same memory read as its transpose.
template <typename T>
struct Block {
  T* data;
  int64_t rows, cols;
  int64_t row_stride, col_stride;

  Block(T* data, int64_t rows, int64_t cols, int64_t stride) : Block(data, rows, cols, stride, 1) {}
  Block(T* data, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride)
      : data(data), rows(rows), cols(cols), row_stride(row_stride), col_stride(col_stride) {}

  // Rows `part`, where this block begins at row `first`.
  Block slice(Range part, int64_t first) const {
    return {data + (part.begin - first) * row_stride, part.size(), cols, row_stride, col_stride};
  }
  Block columns(Range part) const {
    return {data + part.begin * col_stride, rows, part.size(), row_stride, col_stride};
  }
  Block transposed() const { return {data, cols, rows, col_stride, row_stride}; }

  at::Tensor tensor() const {
    return at::from_blob(
        const_cast<std::remove_const_t<T>*>(data), {rows, cols}, {row_stride, col_stride},
        at::TensorOptions(c10::CppTypeToScalarType<std::remove_const_t<T>>::value));
  }
};

// out = alpha a b, added to what is in `out` if `accumulate`.
template <typename T>
void matmul(const Block<const T>& a, const Block<const T>& b, const Block<T>& out, double alpha,
            bool accumulate) {
  at::AutoDispatchBelowADInplaceOrView no_autograd;
  at::Tensor result = out.tensor();
  at::addmm_out(result, result, a.tensor(), b.tensor(), accumulate ? 1.0 : 0.0, alpha);
}

}  // namespace fastclip::cpu
