#include "siglip_epilogue.h"

#include "simd_math.h"

namespace fastclip::cpu {
namespace {

template <typename T>
FASTCLIP_INLINE T magnitude(T x) {
  return x < T(0) ? -x : x;
}

// Of l and e = e^-|l|.
template <typename T>
FASTCLIP_INLINE T softplus(T l, T e) {
  return (l < T(0) ? T(0) : l) + log1p_unit(e);
}

template <typename T>
FASTCLIP_INLINE T sigmoid(T l, T e) {
  return (l < T(0) ? e : T(1)) / (T(1) + e);
}

template <typename T>
FASTCLIP_INLINE T without_negligible(T p) {
  constexpr T kNegligible = T(0x1p-100);
  return p < kNegligible && p > -kNegligible ? T(0) : p;
}

template <typename T>
FASTCLIP_INLINE void forward(const T* __restrict logits, int64_t m, int64_t n, T bias,
                             int64_t first_pair, T* __restrict row_loss) {
  for (int64_t i = 0; i < m; ++i) {
    const T* __restrict row = logits + i * n;
    T sum = T(0);
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; ++j) {
      const T logit = row[j] + bias;
      const T l = j == first_pair + i ? -logit : logit;
      sum += softplus(l, exp_nonpositive(-magnitude(l)));
    }
    row_loss[i] = sum;
  }
}

template <typename T>
FASTCLIP_INLINE double backward(const T* logits, int64_t m, int64_t n, T bias, int64_t first_pair,
                                const T* __restrict row_weight, T* p) {
  double total = 0.0;
  for (int64_t i = 0; i < m; ++i) {
    const T weight = row_weight[i];
    T sum = T(0);
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; ++j) {
      const T logit = logits[i * n + j] + bias;
      const bool is_pair = j == first_pair + i;
      const T l = is_pair ? -logit : logit;
      const T value = (is_pair ? -weight : weight) * sigmoid(l, exp_nonpositive(-magnitude(l)));
      p[i * n + j] = without_negligible(value);
      sum += value;
    }
    total += static_cast<double>(sum);
  }
  return total;
}

template <typename T>
FASTCLIP_INLINE SiglipSums both(T* p, int64_t m, int64_t n, T bias, int64_t first_pair) {
  SiglipSums sums;
  for (int64_t i = 0; i < m; ++i) {
    T* const row = p + i * n;
    T loss = T(0), gradient = T(0);
#pragma omp simd reduction(+ : loss, gradient)
    for (int64_t j = 0; j < n; ++j) {
      const T logit = row[j] + bias;
      const bool is_pair = j == first_pair + i;
      const T l = is_pair ? -logit : logit;
      const T e = exp_nonpositive(-magnitude(l));
      const T value = is_pair ? -sigmoid(l, e) : sigmoid(l, e);
      row[j] = without_negligible(value);
      loss += softplus(l, e);
      gradient += value;
    }
    sums.loss += static_cast<double>(loss);
    sums.gradient += static_cast<double>(gradient);
  }
  return sums;
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

FASTCLIP_MULTIVERSION
SiglipSums siglip_tile_at_once(float* p, int64_t m, int64_t n, float bias, int64_t first_pair) {
  return both(p, m, n, bias, first_pair);
}

FASTCLIP_MULTIVERSION
SiglipSums siglip_tile_at_once(double* p, int64_t m, int64_t n, double bias, int64_t first_pair) {
  return both(p, m, n, bias, first_pair);
}

}  // namespace fastclip::cpu
