// Reductions over the threads of a block, in an order that does not depend on time.
#pragma once

#include "device/device.cuh"

namespace fastclip::cuda {

// The larger of two numbers that are not negative; a nan is larger than all.
FASTCLIP_DEVICE float larger(float a, float b) {
  return __int_as_float(max(__float_as_int(a), __float_as_int(b)));
}

// The result in every thread. `shared` has room for one T a warp; the block has WARPS whole warps.
template <int WARPS, typename T, typename Merge>
FASTCLIP_DEVICE T over_block(T own, T* shared, Merge&& merge) {
  for (int lanes = WARP / 2; lanes > 0; lanes /= 2) own = merge(own, shuffle_xor(own, lanes));
  __syncthreads();  // the last reduction's results have been read
  if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = own;
  __syncthreads();
  T all = shared[0];
  for (int warp = 1; warp < WARPS; ++warp) all = merge(all, shared[warp]);
  return all;
}

}  // namespace fastclip::cuda
