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
#include "operands.cuh"

namespace fastclip::cuda {

template <typename T>
__global__ void __launch_bounds__(THREADS_OF_ROWS) prepare_kernel(const Preparation of) {
  const int row = blockIdx.x * ROWS_OF_BLOCK + threadIdx.x / WARP;  // below plane_rows
  prepare_row<T>(of, row, of.largest == nullptr ? 0.0f : power_of_two_factor(*of.largest));
}

void prepare(const Preparation& of, int64_t stream) {
  const dim3 grid(of.plane_rows / ROWS_OF_BLOCK);
  with_dtype(of.features.dtype, [&](auto element) {
    launch(prepare_kernel<decltype(element)>, "prepare", grid, THREADS_OF_ROWS, 0, stream, of);
  });
}

}  // namespace fastclip::cuda
