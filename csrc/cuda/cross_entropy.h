#pragma once

#include <cstdint>

namespace fastclip::cuda {

// Of N pairs, the main diagonal of a square: statistics of rows, then of columns.
struct Statistics {
  const float* positive;  // (N,)
  const float* shift;     // (2N,)
  const float* total;     // (2N,)
  int32_t N;
};

struct MeanLoss {
  Statistics statistics;
  float* loss;  // (), written
};

struct StatisticsGradients {
  Statistics statistics;
  const float* grad_loss;  // ()
  float* grad_total;       // (2N,), written
  float* grad_positive;    // (N,), written
  // From here on as in pairs.h.
  const float* logit_scale;  // ()
  const float* extents;      // null where rows are normalised
  float* scalars;            // (NUM_SCALARS,), written
};

struct ScaleGradient {
  const float* of_rows;  // (N,)
  int32_t N;
  float* sum;  // (), written
};

void mean_loss(const MeanLoss& of, int64_t stream);
void statistics_gradients(const StatisticsGradients& of, int64_t stream);
void scale_gradient(const ScaleGradient& of, int64_t stream);

}  // namespace fastclip::cuda
