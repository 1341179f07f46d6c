// What belongs to the rows and columns of a tile of G, fetched by a warp that is idle otherwise.
//
// Math
//   ../logit_gradients.cuh. Where the shifts of a tile's rows and columns, s_i and s'_j, are less
//   than 80 apart in log2 units, all become k, the least of them, and one exponential serves both:
//     G_ij = 2^(x_ij - k) (a_i + b_j),  a_i = g_i 2^(k - s_i),  b_j = g'_j 2^(k - s'_j)
//   Which way a tile goes depends on its shifts alone.
// Numerics
//   A row's exponentials sum up to less than 2 relative to s_i, so x_ij - k is below 81: nothing
//   overflows. An exponential that underflows is below 2^-126 of its weight. a_i, no larger than
//   g_i, underflows where `weight` g_i is below 2^-46, of which float16 shows nothing.
//   x_ij - k and k - s_i are rounded at 80 where x_ij - s_i would be at 1: either term of G is exact
//   to 2^-17, and G is stored to 2^-11. A block of two planes keeps more, and its tiles keep both
//   exponentials: its three products take longer than they do.
// Schedule
//   One warp beside the producer goes through the tiles, at most two ahead of the multiplying warps:
//   loads that a tile's epilogue would wait for are made while it is multiplied. So is the search
//   for an entry that is left out; the intervals themselves are read again where there is one.
// Why nobody waits for ever, and nothing is read too early or written too late
//   Both sides go through as many tiles, and take buffers and parities from a tile's number. The
//   fetching warp waits for nothing but `empty`, at which every multiplying warp arrives once per
//   tile; they wait for `full`, where it arrives once. A phase cannot be missed: neither side can
//   be two buffers' rounds ahead. Both barriers are the block's own and of ordinary reads and writes:
//   a __syncwarp puts those of all lanes before the arrival of one, which releases them to those who
//   wait. No bulk copy touches a buffer, so that no proxy fence is needed, and nobody waits for the
//   last arrivals at `empty`.
#pragma once

#include "block_tiles.cuh"

namespace fastclip::cuda::hopper {

constexpr int BUFFERS = 2;
constexpr float SPREAD = 80.0f;  // of the shifts that one exponential serves

// The sides of a tile: this block's rows, then the columns.
constexpr int SIDES = BLOCK_ROWS + BLOCK_COLS, SIDES_AT_ONCE = BLOCK_ROWS;
static_assert(BLOCK_COLS % SIDES_AT_ONCE == 0 && SIDES_AT_ONCE % WARP == 0);

struct alignas(16) TileSides {
  SideWeight of[SIDES];
  TilePosition tile;
  float unit;
  bool one_shift;  // of all sides
  bool masked;
};

struct SideRing {
  TileSides buffers[BUFFERS];
  Barrier full[BUFFERS];
  Barrier empty[BUFFERS];

  // Before the product's ring, which publishes these barriers with its own.
  FASTCLIP_DEVICE void initialize() {
    if (threadIdx.x != 0) return;
    for (int i = 0; i < BUFFERS; ++i) {
      cuda::initialize(full[i], 1);
      cuda::initialize(empty[i], CONSUMERS * WARPGROUP / WARP);
    }
  }
};

// One warp; returns whether all have one shift. `first_row`: of the block's rows, in the matrix.
FASTCLIP_DEVICE bool fetch_sides(const GradientWeights& of, const LogitMatrix& matrix,
                                 int first_row, int first_col, float weight, bool may_share,
                                 SideWeight (&sides)[SIDES]) {
  constexpr int OF_LANE = SIDES_AT_ONCE / WARP;
  const int lane = threadIdx.x % WARP;
  float least = INFINITY, most = -INFINITY;
  // More loads at once take more registers than the producer's warps have.
#pragma unroll 1
  for (int first = 0; first < SIDES; first += SIDES_AT_ONCE) {
    const bool rows = first < BLOCK_ROWS;
    const int begin = (rows ? first_row : matrix.M + first_col - BLOCK_ROWS) + first + lane;
    const int left = (rows ? matrix.M : matrix.M + matrix.N) - begin;
    const float *shifts = of.shift + begin, *gradients = of.grad_total + begin;
    float shift[OF_LANE], gradient[OF_LANE];
#pragma unroll
    for (int i = 0; i < OF_LANE; ++i) {
      shift[i] = i * WARP < left ? shifts[i * WARP] : -INFINITY;
      gradient[i] = i * WARP < left ? gradients[i * WARP] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < OF_LANE; ++i) {
      const SideWeight own = side_weight(shift[i], gradient[i], weight);
      sides[first + i * WARP + lane] = own;
      const bool finite = fabsf(own.shift) < INFINITY;  // else G does not depend on it, or is nan
      least = finite ? fminf(least, own.shift) : least;
      most = finite ? fmaxf(most, own.shift) : most;
    }
  }
  for (int lanes = 1; lanes < WARP; lanes *= 2) {
    least = fminf(least, shuffle_xor(least, lanes));
    most = fmaxf(most, shuffle_xor(most, lanes));
  }
  const bool one_shift = may_share && least <= most && most - least < SPREAD;
  if (!one_shift) return false;
#pragma unroll 4
  for (int at = lane; at < SIDES; at += WARP) {
    const SideWeight own = sides[at];
    sides[at] = {least, own.weight * exp2_approx(least - own.shift)};
  }
  return true;
}

// The fetching warp's part.
FASTCLIP_DEVICE void fetch_all_sides(const GradientWeights& of, const LogitMatrix& matrix,
                                     const GradientBlock& block, const ClusterTiles& tiles,
                                     SideRing& ring) {
  const float unit = of.scalars[UNIT], weight = of.scalars[WEIGHT];
  for (int i = 0; i < tiles.count(); ++i) {
    TileSides& sides = ring.buffers[i % BUFFERS];
    const TilePosition tile = tiles(i);
    const int first_row = block.first_row + tile.row + rank_in_cluster() * BLOCK_ROWS;
    wait(ring.empty[i % BUFFERS], i / BUFFERS % 2 ^ 1);
    sides.one_shift =
        fetch_sides(of, matrix, first_row, tile.col, weight, block.planes == 1, sides.of);
    sides.tile = tile;
    sides.unit = unit;
    sides.masked = needs_masks(matrix, first_row, tile.col, BLOCK_ROWS, BLOCK_COLS) ||
                   leaves_out(matrix, first_row, tile.col, BLOCK_ROWS, BLOCK_COLS);
    __syncwarp();
    if (threadIdx.x % WARP == 0) arrive(ring.full[i % BUFFERS]);
  }
}

}  // namespace fastclip::cuda::hopper
