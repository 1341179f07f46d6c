// The extents of both sides of a square, from what `extents` (pairs.h) has written.
#pragma once

#include "block_reduction.cuh"
#include "pairs.h"
#include "scalars.cuh"

namespace fastclip::cuda {

// By all threads of a block, of WARPS warps; `shared` has room for a float a warp.
template <int WARPS>
FASTCLIP_DEVICE Extent whole_extent(const float* extents, int side, int N, float* shared) {
  const int count = (N + ROWS_OF_EXTENT - 1) / ROWS_OF_EXTENT;
  const float* own = extents + int64_t{side} * count * 2;
  Extent found{0.0f, 0.0f};
  for (int i = threadIdx.x; i < count; i += WARPS * WARP) {
    found.largest = larger(found.largest, own[2 * i]);
    found.norm = larger(found.norm, own[2 * i + 1]);
  }
  found.largest = over_block<WARPS>(found.largest, shared, larger);
  found.norm = over_block<WARPS>(found.norm, shared, larger);
  return found;
}

// Of a square with N rows and columns.
template <int WARPS>
FASTCLIP_DEVICE ScalarInputs scalar_inputs(const float* logit_scale, const float* extents, int N,
                                           float* shared) {
  ScalarInputs inputs{*logit_scale, 0.0f, extents != nullptr, {}, {}, N};
  if (inputs.scaled) {
    inputs.rows = whole_extent<WARPS>(extents, 0, N, shared);
    inputs.cols = whole_extent<WARPS>(extents, 1, N, shared);
  }
  return inputs;
}

}  // namespace fastclip::cuda
