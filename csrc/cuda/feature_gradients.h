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

void feature_gradient(const FeatureGradient& of, int64_t stream);

}  // namespace fastclip::cuda
