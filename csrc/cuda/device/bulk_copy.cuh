// Boxes of a matrix between global and shared memory by the copy engine (TMA), 128-byte rows
// swizzled: 16-byte chunk c of row r lies at c ^ r % 8. sm_90. Source: PTX ISA, section
// "cp.async.bulk.tensor"; CUDA driver API, "Tensor Map Object Management".
#pragma once

#include <cuda.h>

#include <cstdint>

#include "cluster.cuh"

namespace fastclip::cuda {

constexpr int BOX_COLS = 64;  // float16 in 128 bytes

// A matrix and the box of BOX_COLS columns that is copied at a time; made by `tensor_map.h`.
using TensorMap = CUtensorMap;

// Into `shared` of every block of the cluster in `mask`, each of whose `barrier` gets the bytes.
__device__ __forceinline__ void load_box(void* shared, const TensorMap& of, Barrier& barrier,
                                         int row, int col, uint16_t mask) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(shared)),
      "l"(&of), "r"(shared_address(&barrier)), "r"(col), "r"(row), "h"(mask)
      : "memory");
}

// Into `shared` of this block alone.
__device__ __forceinline__ void load_box(void* shared, const TensorMap& of, Barrier& barrier,
                                         int row, int col) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(shared)),
      "l"(&of), "r"(shared_address(&barrier)), "r"(col), "r"(row)
      : "memory");
}

__device__ __forceinline__ void store_box(const TensorMap& of, const void* shared, int row,
                                          int col) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&of),
      "r"(shared_address(shared)), "r"(col), "r"(row)
      : "memory");
}

// What threads have written to shared memory is seen by the stores that follow a barrier.
__device__ __forceinline__ void publish_to_stores() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void commit_stores() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// Until this thread's stores have read shared memory.
__device__ __forceinline__ void wait_for_stores_to_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

}  // namespace fastclip::cuda
