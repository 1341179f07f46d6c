// What four warps do together: wgmma.m64n256k16, and who has how many registers. sm_90a.
// Lane l of warp w has of the result, with g = l / 4 and t = l % 4 (PTX ISA, "wgmma.mma_async"):
//     c[n][0..3]   rows 16 w + g, + g, + g + 8, + g + 8;  columns 8 n + 2t, + 1, 2t, + 1
#pragma once

#include <cstdint>

#include "async_copy.cuh"

namespace fastclip::cuda {

constexpr int WARPGROUP = 128;

// Of a factor in shared memory whose rows are 128 bytes (64 features), swizzled, 8 of
// them in 1 KiB.
__device__ __forceinline__ uint64_t factor_descriptor(const void* shared) {
  constexpr uint64_t SWIZZLE_128_BYTES = uint64_t{1} << 62;
  constexpr uint64_t NEXT_EIGHT_ROWS = uint64_t{1024 >> 4} << 32;
  return SWIZZLE_128_BYTES | NEXT_EIGHT_ROWS | uint64_t{1} << 16 | shared_address(shared) >> 4;
}

// The same factor `bytes` further along its rows.
__device__ __forceinline__ uint64_t moved(uint64_t descriptor, int bytes) {
  return descriptor + (bytes >> 4);
}

// Accumulators that were touched otherwise, before they are given to a product.
__device__ __forceinline__ void publish_accumulators() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Until at most `PENDING` groups of products are still running.
template <int PENDING>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#define FASTCLIP_FOUR(n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#define FASTCLIP_SIXTEEN(n) \
  FASTCLIP_FOUR(n), FASTCLIP_FOUR(n + 1), FASTCLIP_FOUR(n + 2), FASTCLIP_FOUR(n + 3)

// c = a b, or c += a b where `add`; 64 x 256, of 16 features.
__device__ __forceinline__ void multiply_64x256(float (&c)[32][4], uint64_t a, uint64_t b,
                                                bool add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "
      "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, "
      "%126, %127}, %128, %129, add, 1, 1, 0, 0;\n"
      "}"
      : FASTCLIP_SIXTEEN(0), FASTCLIP_SIXTEEN(4), FASTCLIP_SIXTEEN(8), FASTCLIP_SIXTEEN(12),
        FASTCLIP_SIXTEEN(16), FASTCLIP_SIXTEEN(20), FASTCLIP_SIXTEEN(24), FASTCLIP_SIXTEEN(28)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

// What products have written is read after the wait that stands before this: to the compiler the
// wait has nothing to do with them, and it might move what follows to before it.
__device__ __forceinline__ void settle_accumulators(float (&c)[32][4]) {
  asm volatile(""
               : FASTCLIP_SIXTEEN(0), FASTCLIP_SIXTEEN(4), FASTCLIP_SIXTEEN(8),
                 FASTCLIP_SIXTEEN(12), FASTCLIP_SIXTEEN(16), FASTCLIP_SIXTEEN(20),
                 FASTCLIP_SIXTEEN(24), FASTCLIP_SIXTEEN(28)::"memory");
}

#undef FASTCLIP_SIXTEEN
#undef FASTCLIP_FOUR

// Registers of every thread of a warpgroup, from or to the others of the block.
template <int COUNT>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// Some of the block's threads: those that name the same barrier, 1 to 15.
__device__ __forceinline__ void synchronize(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Four 8 x 8 matrices of 16-bit numbers into shared memory: the reverse of `load_matrices`.
__device__ __forceinline__ void store_matrices(void* row, uint32_t a, uint32_t b, uint32_t c,
                                               uint32_t d) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
      "r"(a), "r"(b), "r"(c), "r"(d)
      : "memory");
}

}  // namespace fastclip::cuda
