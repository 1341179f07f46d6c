#include "feature_rows.h"

#include "simd_math.h"

namespace fastclip::cpu {
namespace {

template <typename T>
FASTCLIP_INLINE double squared_norm_of(const T* x, int64_t dim) {
  double squares = 0.0;
#pragma omp simd reduction(+ : squares)
  for (int64_t d = 0; d < dim; ++d)
    squares += static_cast<double>(x[d]) * static_cast<double>(x[d]);
  return squares;
}

template <typename T>
FASTCLIP_INLINE void scale(T* x, int64_t dim, double factor) {
#pragma omp simd
  for (int64_t d = 0; d < dim; ++d) x[d] = static_cast<T>(x[d] * factor);
}

template <typename T>
FASTCLIP_INLINE T scale_dot(T* __restrict sum, const T* __restrict x, int64_t dim, T factor) {
  T dot = T(0);
#pragma omp simd reduction(+ : dot)
  for (int64_t d = 0; d < dim; ++d) {
    dot += sum[d] * x[d];
    sum[d] *= factor;
  }
  return dot;
}

template <typename T>
FASTCLIP_INLINE void project(T* __restrict grad, const T* __restrict unit, int64_t dim,
                             double along, double inverse_norm) {
#pragma omp simd
  for (int64_t d = 0; d < dim; ++d) {
    grad[d] = static_cast<T>((grad[d] - unit[d] * along) * inverse_norm);
  }
}

}  // namespace

FASTCLIP_MULTIVERSION
double squared_norm(const float* x, int64_t dim) { return squared_norm_of(x, dim); }

FASTCLIP_MULTIVERSION
double squared_norm(const double* x, int64_t dim) { return squared_norm_of(x, dim); }

FASTCLIP_MULTIVERSION
void scale_row(float* x, int64_t dim, double factor) { scale(x, dim, factor); }

FASTCLIP_MULTIVERSION
void scale_row(double* x, int64_t dim, double factor) { scale(x, dim, factor); }

FASTCLIP_MULTIVERSION
double scale_and_dot(float* sum, const float* x, int64_t dim, float factor) {
  return scale_dot(sum, x, dim, factor);
}

FASTCLIP_MULTIVERSION
double scale_and_dot(double* sum, const double* x, int64_t dim, double factor) {
  return scale_dot(sum, x, dim, factor);
}

FASTCLIP_MULTIVERSION
void project_row(float* grad, const float* unit, int64_t dim, double along, double inverse_norm) {
  project(grad, unit, dim, along, inverse_norm);
}

FASTCLIP_MULTIVERSION
void project_row(double* grad, const double* unit, int64_t dim, double along, double inverse_norm) {
  project(grad, unit, dim, along, inverse_norm);
}

}  // namespace fastclip::cpu
