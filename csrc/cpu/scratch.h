// Memory for the kernels, in large pages where the system offers them.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastclip::cpu {

// An uninitialised tensor. First touching a fresh 4 KiB page costs as much as a thousand FLOPs of a
// product, and a buffer of megabytes is fresh at every call: ask for 2 MiB pages instead. The
// advice changes neither size nor content; where it is not taken nothing is lost.
inline at::Tensor empty(at::IntArrayRef sizes, const at::TensorOptions& options) {
  at::Tensor tensor = at::empty(sizes, options);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kPage = 4096;
  constexpr size_t kWorthwhile = size_t{4} << 20;
  if (tensor.nbytes() >= kWorthwhile) {
    const auto begin = (reinterpret_cast<uintptr_t>(tensor.data_ptr()) + kPage - 1) / kPage * kPage;
    const auto end = reinterpret_cast<uintptr_t>(tensor.data_ptr()) + tensor.nbytes();
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
  }
#endif
  return tensor;
}

}  // namespace fastclip::cpu
