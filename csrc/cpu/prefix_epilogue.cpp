#include "prefix_epilogue.h"

#include <limits>

#include "simd_math.h"
#include "softmax_weights.h"

namespace fastclip::cpu {
namespace {

template <typename T>
FASTCLIP_INLINE void rescale(const T* logits, int64_t m, int64_t n, const T* __restrict row_ratio,
                             const T* __restrict col_ratio, T* out) {
  for (int64_t i = 0; i < m; ++i) {
    const T ratio = row_ratio[i];
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) out[i * n + j] = logits[i * n + j] * (ratio * col_ratio[j]);
  }
}

// `later` and the ratios are not read if there is no next prefix.
template <bool kHasNext, typename T>
FASTCLIP_INLINE void backward_rows(const T* logits, int64_t m, int64_t n,
                                   const T* __restrict row_weight, const T* __restrict row_max,
                                   const T* __restrict col_weight, const T* __restrict col_max,
                                   const T* __restrict later, const T* __restrict row_ratio,
                                   const T* __restrict col_ratio, T later_scale, T* out,
                                   T* __restrict row_dot, T* __restrict col_dot) {
  constexpr T kPair = -std::numeric_limits<T>::infinity();
  for (int64_t j = 0; j < n; ++j) col_dot[j] = T(0);
  for (int64_t i = 0; i < m; ++i) {
    const T weight = row_weight[i];
    const T shift = finite_shift(row_max[i]);
    const T ratio = kHasNext ? later_scale * row_ratio[i] : T(0);
    T sum = T(0);
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; ++j) {
      const T s = logits[i * n + j];
      const T p = softmax_weight(s, weight, shift, col_weight[j], col_max[j]);
      const T dot = p * (s == kPair ? T(0) : s);
      sum += dot;
      col_dot[j] += dot;
      const T of_next = kHasNext ? ratio * col_ratio[j] * later[i * n + j] : T(0);
      out[i * n + j] = without_negligible(kHasNext ? p + of_next : p);
    }
    row_dot[i] = sum;
  }
}

template <typename T>
FASTCLIP_INLINE void backward(const T* logits, int64_t m, int64_t n, const T* row_weight,
                              const T* row_max, const T* col_weight, const T* col_max,
                              const NextPrefix<T>& next, T* out, T* row_dot, T* col_dot) {
  if (next.gradients == nullptr) {
    backward_rows<false>(logits, m, n, row_weight, row_max, col_weight, col_max, next.gradients,
                         next.row_ratio, next.col_ratio, next.scale, out, row_dot, col_dot);
  } else {
    backward_rows<true>(logits, m, n, row_weight, row_max, col_weight, col_max, next.gradients,
                        next.row_ratio, next.col_ratio, next.scale, out, row_dot, col_dot);
  }
}

}  // namespace

FASTCLIP_MULTIVERSION
void rescale_tile(const float* logits, int64_t m, int64_t n, const float* row_ratio,
                  const float* col_ratio, float* out) {
  rescale(logits, m, n, row_ratio, col_ratio, out);
}

FASTCLIP_MULTIVERSION
void rescale_tile(const double* logits, int64_t m, int64_t n, const double* row_ratio,
                  const double* col_ratio, double* out) {
  rescale(logits, m, n, row_ratio, col_ratio, out);
}

FASTCLIP_MULTIVERSION
void prefix_tile_backward(const float* logits, int64_t m, int64_t n, const float* row_weight,
                          const float* row_max, const float* col_weight, const float* col_max,
                          const NextPrefix<float>& next, float* out, float* row_dot,
                          float* col_dot) {
  backward(logits, m, n, row_weight, row_max, col_weight, col_max, next, out, row_dot, col_dot);
}

FASTCLIP_MULTIVERSION
void prefix_tile_backward(const double* logits, int64_t m, int64_t n, const double* row_weight,
                          const double* row_max, const double* col_weight, const double* col_max,
                          const NextPrefix<double>& next, double* out, double* row_dot,
                          double* col_dot) {
  backward(logits, m, n, row_weight, row_max, col_weight, col_max, next, out, row_dot, col_dot);
}

}  // namespace fastclip::cpu
