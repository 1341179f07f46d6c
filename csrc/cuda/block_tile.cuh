// A portable tile of a block of G: which one a thread block has, and how it is stored.
#pragma once

#include "logit_gradients.cuh"
#include "tile_product.cuh"

namespace fastclip::cuda {

constexpr int GROUP = 8;
// A row of the tile in shared memory is 16 bytes longer than 128 numbers, so that rows begin
// in other banks.
constexpr int STAGED_ROW_BYTES = BLOCK * 2 + 16;
static_assert(BLOCK * STAGED_ROW_BYTES <= PRODUCT_BYTES);

struct TilePosition {
  int row, col;
};

// In an order whose neighbours share operands in the L2 cache.
FASTCLIP_DEVICE TilePosition grouped_tile(int index, int num_m, int num_n) {
  const int width = GROUP * num_n, first = index / width * GROUP, within = index % width;
  const int group = min(num_m - first, GROUP);
  return {first + within % group, within / group};
}

FASTCLIP_DEVICE TilePosition tile_of_block(const GradientBlock& of) {
  const TilePosition tile = grouped_tile(blockIdx.x, of.num_rows / BLOCK, of.num_cols / BLOCK);
  return {tile.row * BLOCK, tile.col * BLOCK};
}

FASTCLIP_DEVICE void store_plane(const GradientBlock& of, int plane, TilePosition tile,
                                 const PortableFragment& values, char* shared) {
#pragma unroll
  for (int r = 0; r < PortableFragment::ROWS; ++r) {
    char* row = shared + (warp_row() + row_of(r)) * STAGED_ROW_BYTES + warp_col() * 2;
#pragma unroll
    for (int c = 0; c < PortableFragment::COLS; c += 2)
      *reinterpret_cast<uint32_t*>(row + col_of(c) * 2) =
          packed_float16(values.at(r, c), values.at(r, c + 1));
  }
  __syncthreads();
  constexpr int CHUNKS_OF_ROW = BLOCK / CHUNK;
  float16* block = static_cast<float16*>(of.values) + int64_t{plane} * of.num_rows * of.num_cols;
#pragma unroll
  for (int i = threadIdx.x; i < BLOCK * CHUNKS_OF_ROW; i += THREADS) {
    const int row = i / CHUNKS_OF_ROW, chunk = i % CHUNKS_OF_ROW;
    *reinterpret_cast<uint4*>(block + int64_t{tile.row + row} * of.num_cols + tile.col +
                              chunk * CHUNK) =
        *reinterpret_cast<const uint4*>(shared + row * STAGED_ROW_BYTES + chunk * 16);
  }
}

// `values`: weight G, destroyed. `shared`: PRODUCT_BYTES that nobody reads any more.
FASTCLIP_DEVICE void store_block(const GradientBlock& of, TilePosition tile,
                                 PortableFragment& values, char* shared) {
  store_plane(of, 0, tile, values, shared);
  if (of.planes == 1) return;
#pragma unroll
  for (int r = 0; r < PortableFragment::ROWS; ++r)
#pragma unroll
    for (int c = 0; c < PortableFragment::COLS; ++c)
      values.at(r, c) = remainder_of_float16(values.at(r, c));
  __syncthreads();
  store_plane(of, 1, tile, values, shared);
}

}  // namespace fastclip::cuda
