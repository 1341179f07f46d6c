// Features and operands as kernels get them.
#pragma once

#include <cstdint>

namespace fastclip::cuda {

enum class Dtype : int32_t { FLOAT32, FLOAT16, BFLOAT16 };

// (rows, D), any strides.
struct Features {
  const void* values;
  Dtype dtype;
  int32_t rows;
  int32_t D;
  int64_t row_stride;
  int64_t col_stride;
};

// Rows ready to be multiplied, zero beyond `num_rows` and D: (planes, plane_rows, dim) float16.
struct Operand {
  const void* values;
  int32_t planes;
  int32_t plane_rows;  // a multiple of 256
  int32_t dim;         // a multiple of 64
  int32_t num_rows;
};

}  // namespace fastclip::cuda
