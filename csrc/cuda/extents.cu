// What scaling features as they are has to know of them, both sides of a square in one launch.
//
// Math
//   largest = max |x_ik|,  norm = max |x_i|, of ROWS_OF_EXTENT rows each
// Tiling
//   A block has ROWS_OF_EXTENT rows, a warp one of them at a time.
// Cost
//   Reads the features once.
// Numerics
//   Norms in float32. A nan is larger than every number.
// Limits
//   None.
// Schedule
//   One reduction over the block, at the end; 64 bytes.
// Source
//   None.
#include "extents.cuh"

#include "features.cuh"

namespace fastclip::cuda {

template <typename T>
__global__ void __launch_bounds__(THREADS_OF_ROWS) extents_kernel(const Extents of) {
  float* shared = reinterpret_cast<float*>(shared_memory());
  const Features features = blockIdx.y == 0 ? of.rows : of.cols;
  const int D = features.D;
  const bool vectors = in_vectors<T>(features);
  const int first_row = blockIdx.x * ROWS_OF_EXTENT;
  const int end = min(first_row + ROWS_OF_EXTENT, features.rows);
  Extent found{0.0f, 0.0f};
  for (int row = first_row + threadIdx.x / WARP; row < end; row += ROWS_OF_BLOCK) {
    const T* x_row = static_cast<const T*>(features.values) + row * features.row_stride;
    float squares = 0.0f;
    for (int dim = threadIdx.x % WARP * ELEMENTS; dim < D; dim += WARP * ELEMENTS) {
      float x[ELEMENTS];
      load_four(x_row, dim, D, features.col_stride, vectors, x);
      for (float element : x) {
        found.largest = larger(found.largest, fabsf(element));
        squares = fmaf(element, element, squares);
      }
    }
    found.norm = larger(found.norm, sqrtf(warp_sum(squares)));
  }
  found.largest = over_block<ROWS_OF_BLOCK>(found.largest, shared, larger);
  found.norm = over_block<ROWS_OF_BLOCK>(found.norm, shared, larger);
  if (threadIdx.x > 0) return;
  float* values = of.values + 2 * (int64_t{blockIdx.y} * gridDim.x + blockIdx.x);
  values[0] = found.largest;
  values[1] = found.norm;
}

void extents(const Extents& of, int64_t stream) {
  const dim3 grid((of.rows.rows + ROWS_OF_EXTENT - 1) / ROWS_OF_EXTENT, 2);
  with_dtype(of.rows.dtype, [&](auto element) {
    launch(extents_kernel<decltype(element)>, "extents", grid, THREADS_OF_ROWS,
           ROWS_OF_BLOCK * static_cast<int>(sizeof(float)), stream, of);
  });
}

}  // namespace fastclip::cuda
