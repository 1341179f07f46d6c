// The scalars of a call, computed on the device (scalars.cu): where each stands in the vector that
// the other kernels get. The same vector as that of fastclip/backends/gpu/scalars.py.
#pragma once

#include <cstdint>

namespace fastclip::cuda {

enum Scalar : int {
  UNIT,      // a logit, in log2 units, is unit * acc
  SHIFT,     // of every sum's exponentials
  BIAS,      // of the sigmoid loss, in log2 units
  STEP,      // of a kept logit, in 16 bits
  WEIGHT,    // of G as it is stored
  GRAD_ROW,  // from an accumulated product P col to G col, in the columns' own units
  GRAD_COL,
  SCALE,
  NUM_SCALARS
};

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;
constexpr float UNIT_FACTOR = 256.0f;  // of an operand's row of norm 1

struct ScalarsOf {
  float* values;             // (NUM_SCALARS,), written
  const float* logit_scale;  // ()
  const float* logit_bias;   // () or null
  // Largest element and norm of features that are not normalised, () each; null where they are.
  const float* row_largest;
  const float* row_norm;
  const float* col_largest;
  const float* col_norm;
  // What bounds the largest |G|, () each; both null: 1.
  const float* grad_total;
  const float* grad_positive;
  int32_t with_gradients;
  int32_t longest_sum;
};

void scalars(const ScalarsOf& of, int64_t stream);

}  // namespace fastclip::cuda
