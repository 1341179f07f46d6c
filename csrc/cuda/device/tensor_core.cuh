// Products of a warp: mma.m16n8k16 of float16 factors, summed in float32, and the loads of its
// fragments. Lane l holds, with g = l / 4 and t = l % 4 (PTX ISA, "mma.m16n8k16"):
//     a[0..3]   rows g, g + 8, g, g + 8;  k = 2t, 2t + 1 and, in a[2] and a[3], 8 further
//     b[0..1]   column g;                 k = 2t, 2t + 1 and 8 further
//     c[0..3]   rows g, g, g + 8, g + 8;  columns 2t, 2t + 1, 2t, 2t + 1
#pragma once

#include <cstdint>

#include "async_copy.cuh"

namespace fastclip::cuda {

// Four 8 x 8 matrices of 16-bit numbers: lanes 8i to 8i + 7 give the addresses of the rows of
// matrix i, lane l receives elements 2t and 2t + 1 of row g of each.
__device__ __forceinline__ void load_matrices(uint32_t (&registers)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(shared_address(row))
               : "memory");
}

// c += a b
__device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace fastclip::cuda
