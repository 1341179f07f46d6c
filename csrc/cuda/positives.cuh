// The product of two rows of operands, by a warp.
#pragma once

#include "features.cuh"

namespace fastclip::cuda {

// Elements dim ... dim + 3 of a row of an operand: the sum of its planes.
FASTCLIP_DEVICE void load_planes(const Operand& of, int64_t row, int dim, float (&x)[ELEMENTS]) {
  const float16* values = static_cast<const float16*>(of.values) + row * of.dim;
  load_four(values, dim, of.dim, 1, true, x);
  if (of.planes == 2) {
    float low[ELEMENTS];
    load_four(values + int64_t{of.plane_rows} * of.dim, dim, of.dim, 1, true, low);
    for (int i = 0; i < ELEMENTS; ++i) x[i] += low[i];
  }
}

// A lane's part of it: what `prepare_row` has written in the same thread may be read.
FASTCLIP_DEVICE double pair_product(const Operand& rows, const Operand& cols, int64_t row,
                                    int64_t col) {
  double product = 0.0;
  for (int dim = threadIdx.x % WARP * ELEMENTS; dim < rows.dim; dim += WARP * ELEMENTS) {
    float a[ELEMENTS], b[ELEMENTS];
    load_planes(rows, row, dim, a);
    load_planes(cols, col, dim, b);
    for (int i = 0; i < ELEMENTS; ++i) product += double{a[i]} * b[i];
  }
  return product;
}

}  // namespace fastclip::cuda
