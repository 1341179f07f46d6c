// What the kernels are written in: CUDA's own words and the functions of this folder.
//
// Without nvcc the same words come from an emulator, which runs a kernel thread by thread on the
// CPU (tests/emulator): every kernel is tested whole on machines without a GPU.
#pragma once

#ifdef __CUDACC__
#include "async_copy.cuh"
#include "bulk_copy.cuh"
#include "cluster.cuh"
#include "float16.cuh"
#include "launch.cuh"
#include "tensor_core.cuh"
#include "warp.cuh"
#include "warpgroup.cuh"
#else
#include "emulator.h"
#endif

#define FASTCLIP_DEVICE __device__ __forceinline__

// The body of a kernel for sm_90a; compiled for any other architecture it is empty.
#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FASTCLIP_HOPPER 1
#else
#define FASTCLIP_HOPPER 0
#endif
