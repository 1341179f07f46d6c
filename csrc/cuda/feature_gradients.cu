// From an accumulated product to the gradient of the features, and what it adds to d logit_scale.
//
// Math
//   for a row x of either side, acc = weight G (operands of the other side):
//     t   = unscale acc                        = G (the other side's rows as multiplied)
//     u   = x / |x| where normalised, else x
//     d logit_scale += <t, u>
//     dx  = s t                                not normalised
//     dx  = s (t - u <t, u>) / |x|             normalised; s t / 1e-12 where |x| < 1e-12
// Tiling
//   A warp has a row, a lane four elements at a time.
// Cost
//   Reads 4 bytes of acc and the features twice (once from cache), writes the gradient.
// Numerics
//   All in float32; one rounding, at the end. The factors of `unscale` are powers of two.
// Limits
//   None.
// Schedule
//   No shared memory, no barriers.
// Source
//   fastclip/backends/normalization.py for the Jacobian.
#include "feature_gradients.h"

#include "features.cuh"
#include "scalars.h"

namespace fastclip::cuda {

template <typename T, typename G>
__global__ void __launch_bounds__(THREADS_OF_ROWS)
    feature_gradient_kernel(const FeatureGradients both) {
  const FeatureGradient& of = both.sides[blockIdx.y];
  const int row = blockIdx.x * ROWS_OF_BLOCK + threadIdx.x / WARP;
  const Features& features = of.features;
  if (of.acc == nullptr || row >= features.rows) return;
  const int first = threadIdx.x % WARP * ELEMENTS, D = features.D;
  const bool vectors = in_vectors<T>(features);
  const T* x_row = static_cast<const T*>(features.values) + row * features.row_stride;
  const float* acc_row = of.acc + row * of.acc_stride;  // whole and aligned beyond D
  const float unscale = of.scalars[of.unscale];
  const float norm = of.norms == nullptr ? 1.0f : of.norms[row], inverse = 1.0f / norm;

  float x[ELEMENTS], t[ELEMENTS], along = 0.0f;
  for (int dim = first; dim < D; dim += WARP * ELEMENTS) {
    load_four(x_row, dim, D, features.col_stride, vectors, x);
    load_four(acc_row, dim, D, 1, true, t);
    for (int i = 0; i < ELEMENTS; ++i) along = fmaf(t[i] * unscale, x[i] * inverse, along);
  }
  along = warp_sum(along);
  if (first == 0) of.grad_scale[row] = along;
  if (of.grad == nullptr) return;

  const float radial = norm > EPS ? along : 0.0f;
  const float scale = of.scalars[SCALE] * inverse;
  G* grad_row = static_cast<G*>(of.grad) + int64_t{row} * D;
  for (int dim = first; dim < D; dim += WARP * ELEMENTS) {
    load_four(x_row, dim, D, features.col_stride, vectors, x);
    load_four(acc_row, dim, D, 1, true, t);
    for (int i = 0; i < ELEMENTS; ++i) {
      t[i] *= unscale;
      if (of.norms != nullptr) t[i] -= x[i] * inverse * radial;
      t[i] *= scale;
    }
    store_four(grad_row, dim, D, D % ELEMENTS == 0, t);
  }
}

void launch_sides(const FeatureGradients& of, int sides, int64_t stream) {
  const FeatureGradient& first = of.sides[0];
  const dim3 grid((first.features.rows + ROWS_OF_BLOCK - 1) / ROWS_OF_BLOCK, sides);
  with_dtype(first.features.dtype, [&](auto element) {
    with_dtype(first.grad_dtype, [&](auto gradient) {
      launch(feature_gradient_kernel<decltype(element), decltype(gradient)>, "feature_gradient",
             grid, THREADS_OF_ROWS, 0, stream, of);
    });
  });
}

void feature_gradient(const FeatureGradient& of, int64_t stream) {
  launch_sides({{of, of}}, 1, stream);
}

void feature_gradients(const FeatureGradients& of, int64_t stream) { launch_sides(of, 2, stream); }

}  // namespace fastclip::cuda
