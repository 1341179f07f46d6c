// One row of features as an operand: by a warp, a lane four elements at a time.
#pragma once

#include "features.cuh"
#include "operands.h"
#include "scalars.cuh"
#include "scalars.h"

namespace fastclip::cuda {

// `row` is below plane_rows. `factor` is that of the whole matrix; 0 where rows are normalised.
template <typename T>
FASTCLIP_DEVICE void prepare_row(const Preparation& of, int row, float factor) {
  const int first = threadIdx.x % WARP * ELEMENTS;
  const Features& features = of.features;
  const bool inside = row < features.rows, vectors = in_vectors<T>(features);
  const int D = inside ? features.D : 0;
  const T* x_row = static_cast<const T*>(features.values) + row * features.row_stride;

  float down = 1.0f;
  if (factor == 0.0f) {
    float x[ELEMENTS], largest = 0.0f;
    for (int dim = first; dim < D; dim += WARP * ELEMENTS) {
      load_four(x_row, dim, D, features.col_stride, vectors, x);
      for (float element : x) largest = fmaxf(largest, fabsf(element));
    }
    // Squares of elements above 2^63 overflow.
    down = warp_max(largest) > 0x1p40f ? 0x1p-80f : 1.0f;
    float squares = 0.0f;
    for (int dim = first; dim < D; dim += WARP * ELEMENTS) {
      load_four(x_row, dim, D, features.col_stride, vectors, x);
      for (float element : x) squares = fmaf(element * down, element * down, squares);
    }
    float norm = sqrtf(warp_sum(squares));
    // Only rows with down = 1 are that small. A nan is kept: fmaxf would drop it.
    norm = norm < EPS ? EPS : norm;
    factor = UNIT_FACTOR / norm;
    if (inside && first == 0) of.norms[row] = norm * (1.0f / down);
  }

  float16* high_row = static_cast<float16*>(of.values) + int64_t{row} * of.dim;
  float16* low_row = high_row + int64_t{of.plane_rows} * of.dim;
  for (int dim = first; dim < of.dim; dim += WARP * ELEMENTS) {
    float x[ELEMENTS], low[ELEMENTS];
    load_four(x_row, dim, D, features.col_stride, vectors, x);
    for (int i = 0; i < ELEMENTS; ++i) {
      x[i] = x[i] * down * factor;
      low[i] = x[i] - as_float(rounded_to<float16>(x[i]));
    }
    store_four(high_row, dim, of.dim, true, x);
    if (of.planes == 2) store_four(low_row, dim, of.dim, true, low);
  }
}

}  // namespace fastclip::cuda
