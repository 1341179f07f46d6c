// Rows of features as kernels read them: any of three dtypes, any strides, four elements at a time.
#pragma once

#include "device/device.cuh"
#include "features.h"

namespace fastclip::cuda {

constexpr float EPS = 1e-12f;  // of a norm: fastclip/backends/normalization.py
constexpr int ELEMENTS = 4;    // that a lane reads at a time
constexpr int ROWS_OF_BLOCK = 8;
constexpr int THREADS_OF_ROWS = ROWS_OF_BLOCK * WARP;  // a warp has a row

FASTCLIP_DEVICE float as_float(float x) { return x; }
FASTCLIP_DEVICE float as_float(float16 x) { return __half2float(x); }
FASTCLIP_DEVICE float as_float(bfloat16 x) { return __bfloat162float(x); }
FASTCLIP_DEVICE float as_float(int16_t x) { return x; }  // a kept logit

template <typename T>
FASTCLIP_DEVICE T rounded_to(float x);
template <>
FASTCLIP_DEVICE float rounded_to<float>(float x) {
  return x;
}
template <>
FASTCLIP_DEVICE float16 rounded_to<float16>(float x) {
  return __float2half_rn(x);
}
template <>
FASTCLIP_DEVICE bfloat16 rounded_to<bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// f(T()) with the type of the elements.
template <typename F>
void with_dtype(Dtype dtype, F&& f) {
  if (dtype == Dtype::FLOAT32) return f(float());
  if (dtype == Dtype::FLOAT16) return f(float16());
  f(bfloat16());
}

// Whether four elements may be read at once.
template <typename T>
FASTCLIP_DEVICE bool in_vectors(const Features& of) {
  return of.col_stride == 1 && of.row_stride % ELEMENTS == 0 &&
         reinterpret_cast<uintptr_t>(of.values) % (ELEMENTS * sizeof(T)) == 0;
}

template <typename T>
struct alignas(ELEMENTS * sizeof(T)) FourOf {
  T at[ELEMENTS];
};

// Elements dim ... dim + 3 of a row, in float32, 0 from D on.
template <typename T>
FASTCLIP_DEVICE void load_four(const T* row, int dim, int D, int64_t stride, bool vectors,
                               float (&x)[ELEMENTS]) {
  if (vectors && dim + ELEMENTS <= D) {
    const FourOf<T> four = *reinterpret_cast<const FourOf<T>*>(row + dim);
    for (int i = 0; i < ELEMENTS; ++i) x[i] = as_float(four.at[i]);
  } else {
    for (int i = 0; i < ELEMENTS; ++i)
      x[i] = dim + i < D ? as_float(row[(dim + i) * stride]) : 0.0f;
  }
}

template <typename T>
FASTCLIP_DEVICE void store_four(T* row, int dim, int D, bool vectors, const float (&x)[ELEMENTS]) {
  if (vectors && dim + ELEMENTS <= D) {
    FourOf<T> four;
    for (int i = 0; i < ELEMENTS; ++i) four.at[i] = rounded_to<T>(x[i]);
    *reinterpret_cast<FourOf<T>*>(row + dim) = four;
  } else {
    for (int i = 0; i < ELEMENTS; ++i)
      if (dim + i < D) row[dim + i] = rounded_to<T>(x[i]);
  }
}

// The same sum in every lane, by a fixed tree.
template <typename T>
FASTCLIP_DEVICE T warp_sum(T x) {
  for (int lanes = WARP / 2; lanes > 0; lanes /= 2) x += shuffle_xor(x, lanes);
  return x;
}

FASTCLIP_DEVICE float warp_max(float x) {
  for (int lanes = WARP / 2; lanes > 0; lanes /= 2) x = fmaxf(x, shuffle_xor(x, lanes));
  return x;
}

}  // namespace fastclip::cuda
