#pragma once

#include "device/device.cuh"
#include "features.h"

namespace fastclip::cuda {

// Of (rows, cols) float16, contiguous, in boxes of box_rows x 64.
TensorMap tensor_map(const void* values, int64_t rows, int64_t cols, int box_rows);

}  // namespace fastclip::cuda
