// The library that operators are registered in, and the device that they are for.
#pragma once

#include <torch/csrc/stable/library.h>

// The emulator of tests/emulator has the same operators for the CPU, under another name.
#ifndef FASTCLIP_LIBRARY
#define FASTCLIP_LIBRARY fastclip_cuda
#define FASTCLIP_DISPATCH_KEY CUDA
#endif
#define EXPANDED_LIBRARY(name, m) STABLE_TORCH_LIBRARY(name, m)
#define EXPANDED_LIBRARY_IMPL(name, key, m) STABLE_TORCH_LIBRARY_IMPL(name, key, m)
#define EXPANDED_LIBRARY_FRAGMENT(name, m) STABLE_TORCH_LIBRARY_FRAGMENT(name, m)
