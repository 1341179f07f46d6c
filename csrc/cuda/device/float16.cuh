// float16 as kernels move it: bits, one or two at a time.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace fastclip::cuda {

using float16 = __half;
using bfloat16 = __nv_bfloat16;

// Of two numbers, `first` in the low half: what one 32-bit word of memory or of a fragment holds.
__device__ __forceinline__ uint32_t packed_float16(float first, float second) {
  const __half2 pair = __floats2half2_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// 2^x to 2^-22 of itself; 0 where that is subnormal.
__device__ __forceinline__ float exp2_approx(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// 1 / x to 2^-23 of itself.
__device__ __forceinline__ float reciprocal_approx(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace fastclip::cuda
