// From what the threads of a portable tile hold of its rows or columns to one number for each.
#pragma once

#include "tile_product.cuh"

namespace fastclip::cuda {

constexpr int ROW_SCRATCH_BYTES = WARPS_N * BLOCK * 4;

// A thread's value for its row r joins those of its warp. `scratch`: (WARPS_N, BLOCK)
template <typename F>
FASTCLIP_DEVICE void put_row(int r, float value, float* scratch, F f) {
  value = across_row(value, f);
  if (threadIdx.x % 4 == 0) scratch[warp_col() / WARP_N * BLOCK + warp_row() + row_of(r)] = value;
}

// result(row, value) for the rows of the tile, after a barrier.
template <typename F, typename Result>
FASTCLIP_DEVICE void collect_rows(const float* scratch, F f, Result&& result) {
  if (threadIdx.x >= BLOCK) return;
  float value = scratch[threadIdx.x];
  for (int n = 1; n < WARPS_N; ++n) value = f(value, scratch[n * BLOCK + threadIdx.x]);
  result(static_cast<int>(threadIdx.x), value);
}

// result(col, value) for the columns of the tile. `scratch`: (WARPS_M, BLOCK)
template <typename F, typename Result>
FASTCLIP_DEVICE void reduce_cols(const float (&values)[PortableFragment::COLS], float* scratch, F f,
                                 Result&& result) {
  const int warp_m = warp_row() / WARP_M;
#pragma unroll
  for (int c = 0; c < PortableFragment::COLS; ++c) {
    const float value = across_col(values[c], f);
    if (threadIdx.x % WARP < 4) scratch[warp_m * BLOCK + warp_col() + col_of(c)] = value;
  }
  __syncthreads();
  if (threadIdx.x >= BLOCK) return;
  float value = scratch[threadIdx.x];
  for (int m = 1; m < WARPS_M; ++m) value = f(value, scratch[m * BLOCK + threadIdx.x]);
  result(static_cast<int>(threadIdx.x), value);
}

}  // namespace fastclip::cuda
