#include "siglip_epilogue.h"

#include "simd_math.h"

namespace fastclip::cpu {
namespace {

template <typename T>
FASTCLIP_INLINE T magnitude(T x) {
  return x < T(0) ? -x : x;
}

template <typename T>
FASTCLIP_INLINE T softplus(T l) {
  return (l < T(0) ? T(0) : l) + log1p_unit(exp_nonpositive(-magnitude(l)));
}

template <typename T>
FASTCLIP_INLINE T sigmoid(T l) {
  const T e = exp_nonpositive(-magnitude(l));
  return (l < T(0) ? e : T(1)) / (T(1) + e);
}

template <typename T>
FASTCLIP_INLINE void forward(const T* __restrict logits, int64_t m, int64_t n, T bias,
                             int64_t first_pair, T* __restrict row_loss) {
  for (int64_t i = 0; i < m; ++i) {
    const T* __restrict row = logits + i * n;
    T sum = T(0);
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; ++j) {
      const T l = row[j] + bias;
      sum += softplus(j == first_pair + i ? -l : l);
    }
    row_loss[i] = sum;
  }
}

template <typename T>
FASTCLIP_INLINE double backward(const T* logits, int64_t m, int64_t n, T bias, int64_t first_pair,
                                const T* __restrict row_weight, T* p) {
  constexpr T kNegligible = T(0x1p-100);
  double total = 0.0;
  for (int64_t i = 0; i < m; ++i) {
    const T weight = row_weight[i];
    T sum = T(0);
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; ++j) {
      const T l = logits[i * n + j] + bias;
      const bool is_pair = j == first_pair + i;
      const T value = (is_pair ? -weight : weight) * sigmoid(is_pair ? -l : l);
      const bool negligible = value < kNegligible && value > -kNegligible;
      p[i * n + j] = negligible ? T(0) : value;
      sum += value;
    }
    total += static_cast<double>(sum);
  }
  return total;
}

}  // namespace

FASTCLIP_MULTIVERSION
void siglip_tile(const float* logits, int64_t m, int64_t n, float bias, int64_t first_pair,
                 float* row_loss) {
  forward(logits, m, n, bias, first_pair, row_loss);
}

FASTCLIP_MULTIVERSION
void siglip_tile(const double* logits, int64_t m, int64_t n, double bias, int64_t first_pair,
                 double* row_loss) {
  forward(logits, m, n, bias, first_pair, row_loss);
}

FASTCLIP_MULTIVERSION
double siglip_tile_backward(const float* logits, int64_t m, int64_t n, float bias,
                            int64_t first_pair, const float* row_weight, float* p) {
  return backward(logits, m, n, bias, first_pair, row_weight, p);
}

FASTCLIP_MULTIVERSION
double siglip_tile_backward(const double* logits, int64_t m, int64_t n, double bias,
                            int64_t first_pair, const double* row_weight, double* p) {
  return backward(logits, m, n, bias, first_pair, row_weight, p);
}

}  // namespace fastclip::cpu
