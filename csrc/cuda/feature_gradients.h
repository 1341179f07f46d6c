#pragma once

#include "features.h"

namespace fastclip::cuda {

struct FeatureGradient {
  const float* acc;  // (at least M, acc_stride)
  int64_t acc_stride;
  Features features;     // (M, D)
  const float* norms;    // (M,); null where rows are not normalised
  const float* scalars;  // (NUM_SCALARS,)
  int32_t unscale;       // GRAD_ROW or GRAD_COL
  void* grad;            // (M, D), contiguous, written; null if it is not needed
  Dtype grad_dtype;
  float* grad_scale;  // (M,), written
};

// Rows and columns of a square in one launch; a side whose `acc` is null has none.
struct FeatureGradients {
  FeatureGradient sides[2];
};

void feature_gradient(const FeatureGradient& of, int64_t stream);
void feature_gradients(const FeatureGradients& of, int64_t stream);

}  // namespace fastclip::cuda
