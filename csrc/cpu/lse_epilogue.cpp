#include "lse_epilogue.h"

#include <limits>

#include "simd_math.h"
#include "softmax_weights.h"

namespace fastclip::cpu {
namespace {

template <typename T>
FASTCLIP_INLINE void forward(const T* __restrict logits, int64_t m, int64_t n,
                             T* __restrict row_max, T* __restrict row_sum, T* __restrict col_max,
                             T* __restrict col_sum) {
  constexpr T kEmpty = -std::numeric_limits<T>::infinity();
  for (int64_t j = 0; j < n; ++j) col_max[j] = kEmpty;
  for (int64_t i = 0; i < m; ++i) {
    const T* __restrict row = logits + i * n;
    T largest = kEmpty;
#pragma omp simd reduction(max : largest)
    for (int64_t j = 0; j < n; ++j) {
      largest = row[j] > largest ? row[j] : largest;
      col_max[j] = row[j] > col_max[j] ? row[j] : col_max[j];
    }
    row_max[i] = largest;
  }
  for (int64_t j = 0; j < n; ++j) col_sum[j] = T(0);
  for (int64_t i = 0; i < m; ++i) {
    const T* __restrict row = logits + i * n;
    const T shift = finite_shift(row_max[i]);
    T sum = T(0);
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; ++j) {
      sum += exp_nonpositive(row[j] - shift);
      col_sum[j] += exp_nonpositive(row[j] - finite_shift(col_max[j]));
    }
    row_sum[i] = sum;
  }
}

template <typename T>
FASTCLIP_INLINE void backward(const T* logits, int64_t m, int64_t n, const T* __restrict row_weight,
                              const T* __restrict row_max, const T* __restrict col_weight,
                              const T* __restrict col_max, T* p) {
  for (int64_t i = 0; i < m; ++i) {
    const T weight = row_weight[i];
    const T shift = finite_shift(row_max[i]);
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      p[i * n + j] = without_negligible(
          softmax_weight(logits[i * n + j], weight, shift, col_weight[j], col_max[j]));
    }
  }
}

}  // namespace

FASTCLIP_MULTIVERSION
void lse_tile(const float* logits, int64_t m, int64_t n, float* row_max, float* row_sum,
              float* col_max, float* col_sum) {
  forward(logits, m, n, row_max, row_sum, col_max, col_sum);
}

FASTCLIP_MULTIVERSION
void lse_tile(const double* logits, int64_t m, int64_t n, double* row_max, double* row_sum,
              double* col_max, double* col_sum) {
  forward(logits, m, n, row_max, row_sum, col_max, col_sum);
}

FASTCLIP_MULTIVERSION
void lse_tile_backward(const float* logits, int64_t m, int64_t n, const float* row_weight,
                       const float* row_max, const float* col_weight, const float* col_max,
                       float* p) {
  backward(logits, m, n, row_weight, row_max, col_weight, col_max, p);
}

FASTCLIP_MULTIVERSION
void lse_tile_backward(const double* logits, int64_t m, int64_t n, const double* row_weight,
                       const double* row_max, const double* col_weight, const double* col_max,
                       double* p) {
  backward(logits, m, n, row_weight, row_max, col_weight, col_max, p);
}

}  // namespace fastclip::cpu
