// Operands: features as the tensor cores multiply them, float16 and padded to whole tiles.
//
// Math
//   normalise:  operand_i = 2^8 x_i / max(|x_i|, 1e-12)
//   otherwise:  operand_i = f x_i,  f the power of two that brings the largest |x_ik| of the whole
//               matrix into [2^7, 2^8)
//   planes = 1: high = fp16(operand)
//   planes = 2: high as above, low = fp16(operand - high)
// Tiling
//   A warp has a row, a lane four elements at a time.
// Cost
//   Reads the features (three times, twice from cache), writes 2 bytes per element and plane.
// Numerics
//   float16 also for bfloat16 features: unit rows need no range, and three more bits make logits
//   and gradients 8 to 10 times as accurate. 2^8 keeps small elements normal. Norms in float32;
//   rows too large to square are scaled by a power of two first.
// Limits
//   Not normalised, elements below 2^-33 of the largest of the matrix are rounded to it.
// Schedule
//   No shared memory, no barriers.
// Source
//   F.normalize for the clamp of the norm.
#include "operands.h"

#include "features.cuh"
#include "scalars.cuh"
#include "scalars.h"

namespace fastclip::cuda {

template <typename T>
__global__ void __launch_bounds__(THREADS_OF_ROWS) prepare_kernel(const Preparation of) {
  const int row = blockIdx.x * ROWS_OF_BLOCK + threadIdx.x / WARP;  // below plane_rows
  const int first = threadIdx.x % WARP * ELEMENTS;
  const Features& features = of.features;
  const bool inside = row < features.rows, vectors = in_vectors<T>(features);
  const int D = inside ? features.D : 0;
  const T* x_row = static_cast<const T*>(features.values) + row * features.row_stride;

  float down = 1.0f, factor;
  if (of.largest == nullptr) {
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
  } else {
    factor = power_of_two_factor(*of.largest);
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

void prepare(const Preparation& of, int64_t stream) {
  const dim3 grid(of.plane_rows / ROWS_OF_BLOCK);
  with_dtype(of.features.dtype, [&](auto element) {
    launch(prepare_kernel<decltype(element)>, "prepare", grid, THREADS_OF_ROWS, 0, stream, of);
  });
}

}  // namespace fastclip::cuda
