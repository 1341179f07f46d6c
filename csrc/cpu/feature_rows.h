// Row-wise passes over features and their gradients: norms, normalisation, and its Jacobian.
//
//   u = x / |x|,   d x = (d u - u <d u, u>) / |x|
#pragma once

#include <cstdint>

namespace fastclip::cpu {

// Squared norm in double: squares overflow in float.
double squared_norm(const float* x, int64_t dim);
double squared_norm(const double* x, int64_t dim);

// x *= factor, the product taken in double: the inverse norm of a large row is subnormal in float.
void scale_row(float* x, int64_t dim, double factor);
void scale_row(double* x, int64_t dim, double factor);

// sum *= factor; returns <sum, x> of the sum before.
double scale_and_dot(float* sum, const float* x, int64_t dim, float factor);
double scale_and_dot(double* sum, const double* x, int64_t dim, double factor);

// grad = (grad - unit * along) * inverse_norm
void project_row(float* grad, const float* unit, int64_t dim, double along, double inverse_norm);
void project_row(double* grad, const double* unit, int64_t dim, double along, double inverse_norm);

}  // namespace fastclip::cpu
