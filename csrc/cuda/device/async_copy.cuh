// cp.async: 16 bytes from global to shared memory, without registers, in groups of a thread.
// Source: PTX ISA, section "Data Movement and Conversion Instructions: cp.async".
#pragma once

#include <cstdint>

namespace fastclip::cuda {

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Past the L1 cache: every byte is read once by this block.
__device__ __forceinline__ void copy_async(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
               "l"(global));
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;"); }

// Until at most `PENDING` of this thread's groups are still on their way.
template <int PENDING>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

}  // namespace fastclip::cuda
