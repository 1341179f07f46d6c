// Reductions between the threads of a warp.
#pragma once

namespace fastclip::cuda {

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

template <typename T>
__device__ __forceinline__ T shuffle_xor(T value, int lanes) {
  return __shfl_xor_sync(ALL_LANES, value, lanes);
}

__device__ __forceinline__ bool any_of_warp(bool own) { return __any_sync(ALL_LANES, own); }

}  // namespace fastclip::cuda
