#pragma once

#include "features.h"

namespace fastclip::cuda {

struct Preparation {
  Features features;     // (M, D)
  const float* largest;  // (), of the matrix that the rows are of; null: normalise each row
  void* values;          // (planes, plane_rows, dim) float16, written
  float* norms;          // (M,), written where rows are normalised
  int32_t planes;
  int32_t plane_rows;
  int32_t dim;
};

void prepare(const Preparation& of, int64_t stream);

}  // namespace fastclip::cuda
