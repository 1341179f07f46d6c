// From partial sums to shift and total, and the rescue of rows that the common shift fails;
// any GPU.
//
// Math
//   for the rows of either side, in log2 units:
//     sum_i      = sum over partials
//     rescued    where sum_i < 2^-80:  max_i = max_j logit_ij,  sum_i = sum_j 2^(logit_ij - max_i)
//                over negatives, by recomputing the row; max_i takes the place of the shift.
//                Where rows and columns are swapped, it is columns that leave out rows
//     shift_i    = (shift + e_i) ln 2,  total_i = sum_i 2^-e_i in [1, 2),  e_i an integer
//                -inf and 1 where there are no negatives
//     with maxima, shift_i is the largest negative and total_i follows: >= 1
// Tiling
//   A block has 128 rows. Unless one of them needs the rescue, which is a scan over all columns
//   with an online maximum, it returns after a few loads: launched always, so that nothing has to
//   be asked from the host.
// Cost
//   4 bytes read per partial, 8 written per row. A rescued block: 256 N D FLOPs. A row that sees
//   nothing is one to rescue.
// Numerics
//   Exact for any data. A term lost to underflow is below 2^-126: beside a sum of 2^-80, N of them
//   are N 2^-46 of it. At logit_scale 100 and N = 32,768 a row is rescued if its cosines are all
//   below about -0.2; below logit_scale 40, never.
//   total_i refers to the float32 number that the backward computes from shift_i, so that rounding
//   shift_i to float32 costs nothing there.
// Limits
//   None.
// Schedule
//   tile_product.cuh; every thread keeps a maximum and a sum of its own for each of its rows, which
//   are merged once, at the end of the scan. 48 KiB.
// Source
//   Milakov and Gimelshein 2018, arXiv:1805.02867, for the online maximum.
#include "finalise.h"

#include "logit_matrix.cuh"
#include "scalars.h"
#include "tile_product.cuh"

namespace fastclip::cuda {

constexpr float TRUSTED = 0x1p-80f;
constexpr int ROWS = PortableFragment::ROWS, COLS = PortableFragment::COLS;  // of a lane

// The sum of exponentials relative to the largest logit: -inf and 0 of nothing.
struct OnlineSum {
  float largest = -INFINITY, total = 0.0f;

  FASTCLIP_DEVICE void merge(float other_largest, float other_total) {
    const float merged = fmaxf(largest, other_largest);
    const float finite = merged == -INFINITY ? 0.0f : merged;
    total =
        total * exp2_approx(largest - finite) + other_total * exp2_approx(other_largest - finite);
    largest = merged;
  }
};

constexpr int SHARED_BYTES = PRODUCT_BYTES + BLOCK * static_cast<int>(sizeof(OnlineSum));

// What the lane's columns leave out of its rows. The warp's part of the tile begins at (row, col).
FASTCLIP_DEVICE void leave_out_rows(const Finalisation& of, int row, int col,
                                    RowMask<COLS> (&masks)[ROWS]) {
#pragma unroll
  for (int c = 0; c < COLS; ++c) {
    const int j = col + col_of(c);
    if (j >= of.matrix.N) continue;
    const int begin = of.excluded_rows.begin[j], end = of.excluded_rows.end[j];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const int i = row + row_of(r);
      if (begin <= i && i < end) masks[r].leave_out(c);
    }
  }
}

// Of the block's rows into `sums`, (BLOCK,), which lies behind the product's memory.
FASTCLIP_DEVICE void scan_rows(const Finalisation& of, int first_row, char* shared,
                               OnlineSum* sums) {
  const float unit = of.scalars[UNIT];
  OnlineSum own[ROWS];
  const TileWalk walk{first_row, 0, 0, BLOCK, (of.matrix.N + BLOCK - 1) / BLOCK};
  multiply_tiles(of.rows, of.cols, walk, shared,
                 [&](const PortableFragment& logits, int, int first_col) {
                   RowMask<COLS> masks[ROWS];
#pragma unroll
                   for (int r = 0; r < ROWS; ++r)
                     masks[r] = RowMask<COLS>(of.matrix, first_row + warp_row() + row_of(r),
                                              first_col + warp_col() + col_of(0));
                   if (of.excluded_rows.begin != nullptr)
                     leave_out_rows(of, first_row + warp_row(), first_col + warp_col(), masks);
#pragma unroll
                   for (int r = 0; r < ROWS; ++r)
#pragma unroll
                     for (int c = 0; c < COLS; ++c) {
                       if (masks[r].is_negative(c)) own[r].merge(logits.at(r, c) * unit, 1.0f);
                     }
                 });
  // Four lanes and WARPS_N warps have a row.
  OnlineSum* of_warps = reinterpret_cast<OnlineSum*>(shared);  // (WARPS_N, BLOCK)
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    for (int lanes = 1; lanes < 4; lanes *= 2) {
      const float largest = shuffle_xor(own[r].largest, lanes);
      own[r].merge(largest, shuffle_xor(own[r].total, lanes));
    }
    if (threadIdx.x % 4 == 0)
      of_warps[warp_col() / WARP_N * BLOCK + warp_row() + row_of(r)] = own[r];
  }
  __syncthreads();
  if (threadIdx.x < BLOCK) {
    OnlineSum merged = of_warps[threadIdx.x];
    for (int n = 1; n < WARPS_N; ++n) {
      const OnlineSum& other = of_warps[n * BLOCK + threadIdx.x];
      merged.merge(other.largest, other.total);
    }
    sums[threadIdx.x] = merged;
  }
}

__global__ void __launch_bounds__(THREADS, 1) finalise_kernel(const Finalisations both) {
  const Finalisation& of = both.sides[blockIdx.y];
  char* shared = shared_memory();
  const int first_row = blockIdx.x * BLOCK, row = first_row + threadIdx.x;
  const bool own = threadIdx.x < BLOCK && row < of.matrix.M;  // a thread has a row
  float total = 0.0f, shift = of.scalars[SHIFT];
  if (own)
    for (int p = 0; p < of.num_partials; ++p) total += of.partials[int64_t{p} * of.matrix.M + row];

  const bool failed = own && total < TRUSTED;
  if (__syncthreads_or(failed)) {
    OnlineSum* sums = reinterpret_cast<OnlineSum*>(shared + PRODUCT_BYTES);
    scan_rows(of, first_row, shared, sums);
    if (failed) {
      total = sums[threadIdx.x].total;
      shift = sums[threadIdx.x].largest;
    }
  }
  if (!own) return;

  const bool alone = total == 0.0f;
  const int exponent = ((__float_as_int(total) >> 23) & 255) - 127;
  const float target = of.maximum == nullptr ? shift + exponent : of.maximum[row];
  const float natural = alone ? 0.0f : target * LN_2;
  // What the backward makes of it, rounded as there and not fused: `total` is relative to that.
  total *= exp2_approx((alone ? 0.0f : shift) - __fmul_rn(natural, LOG2_E));
  of.shift[row] = alone ? -INFINITY : natural;
  of.total[row] = alone ? 1.0f : total;
}

void finalise(const Finalisation& of, int64_t stream) {
  const dim3 grid((of.matrix.M + BLOCK - 1) / BLOCK);
  launch(finalise_kernel, "finalise", grid, THREADS, SHARED_BYTES, stream, Finalisations{{of, of}});
}

void finalise_both(const Finalisations& of, int64_t stream) {
  const dim3 grid((of.sides[0].matrix.M + BLOCK - 1) / BLOCK, 2);
  launch(finalise_kernel, "finalise", grid, THREADS, SHARED_BYTES, stream, of);
}

}  // namespace fastclip::cuda
