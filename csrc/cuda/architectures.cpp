// What the kernels were compiled for, read by fastclip/backends/cuda/library.py.
#ifndef FASTCLIP_CUDA_ARCHITECTURES
#error "setup.py defines FASTCLIP_CUDA_ARCHITECTURES"
#endif

extern "C" __attribute__((visibility("default"))) const char* fastclip_cuda_architectures() {
  return FASTCLIP_CUDA_ARCHITECTURES;
}
