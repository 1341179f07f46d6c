// The kernels as operators of torch.ops.fastclip_cuda, called by fastclip/backends/cuda, which
// makes all tensors and documents their shapes; what is checked here is what would crash otherwise.
//
// Only torch's stable ABI is used: one build serves every torch from 2.11 on, with CUDA or without.
// `stream` is the cudaStream_t that torch gives to Python.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "feature_gradients.h"
#include "finalise.h"
#include "logit_gradients.h"
#include "negative_sums.h"
#include "operands.h"
#include "positives.h"
#include "scalars.h"
#include "sigmoid_tiles.h"

namespace fastclip::cuda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

void require(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(std::string("fastclip_cuda: ") + what);
}

float* floats(const Tensor& of) {
  require(of.scalar_type() == ScalarType::Float && of.is_contiguous(),
          "expected a contiguous float32 tensor");
  return static_cast<float*>(of.data_ptr());
}

float* floats(const OptionalTensor& of) { return of.has_value() ? floats(*of) : nullptr; }

Dtype dtype_of(const Tensor& of) {
  switch (of.scalar_type()) {
    case ScalarType::Float:
      return Dtype::FLOAT32;
    case ScalarType::Half:
      return Dtype::FLOAT16;
    case ScalarType::BFloat16:
      return Dtype::BFLOAT16;
    default:
      throw std::runtime_error("fastclip_cuda: expected float32, float16 or bfloat16");
  }
}

int32_t size(const Tensor& of, int64_t dim) { return static_cast<int32_t>(of.size(dim)); }

Features features_of(const Tensor& of) {
  require(of.dim() == 2, "expected features of two dimensions");
  return {of.data_ptr(), dtype_of(of), size(of, 0), size(of, 1), of.stride(0), of.stride(1)};
}

// (planes, rows, columns) of float16, in whole tiles.
void require_planes(const Tensor& of, int64_t rows_multiple, int64_t cols_multiple) {
  require(of.scalar_type() == ScalarType::Half && of.dim() == 3 && of.is_contiguous(),
          "expected contiguous float16 planes");
  require(of.size(0) == 1 || of.size(0) == 2, "expected one plane or two");
  require(of.size(1) % rows_multiple == 0 && of.size(2) % cols_multiple == 0,
          "expected planes in whole tiles");
}

Operand operand_of(const Tensor& of, int64_t num_rows) {
  require_planes(of, 256, 64);
  require(num_rows <= of.size(1), "an operand has fewer rows than are asked for");
  return {of.data_ptr(), size(of, 0), size(of, 1), size(of, 2), static_cast<int32_t>(num_rows)};
}

LogitMatrix matrix_of(int64_t M, int64_t N, int64_t positive_offset) {
  return {static_cast<int32_t>(M), static_cast<int32_t>(N), positive_offset};
}

GradientBlock block_of(const Tensor& of, int64_t first_row, int64_t first_col) {
  require_planes(of, 256, 256);
  return {of.data_ptr(),
          size(of, 0),
          size(of, 1),
          size(of, 2),
          static_cast<int32_t>(first_row),
          static_cast<int32_t>(first_col)};
}

void scalars_op(Tensor values, Tensor logit_scale, OptionalTensor logit_bias,
                OptionalTensor row_largest, OptionalTensor row_norm, OptionalTensor col_largest,
                OptionalTensor col_norm, OptionalTensor grad_total, OptionalTensor grad_positive,
                bool with_gradients, int64_t longest_sum, int64_t stream) {
  require(values.numel() == NUM_SCALARS, "expected a vector of all scalars");
  scalars({floats(values), floats(logit_scale), floats(logit_bias), floats(row_largest),
           floats(row_norm), floats(col_largest), floats(col_norm), floats(grad_total),
           floats(grad_positive), with_gradients, static_cast<int32_t>(longest_sum)},
          stream);
}

void prepare_op(Tensor features, OptionalTensor largest, Tensor values, Tensor norms,
                int64_t stream) {
  const Operand operand = operand_of(values, features.size(0));
  require(largest.has_value() || norms.numel() == features.size(0), "expected a norm per row");
  prepare({features_of(features), floats(largest), values.data_ptr(), floats(norms), operand.planes,
           operand.plane_rows, operand.dim},
          stream);
}

void positives_op(Tensor rows, Tensor cols, Tensor scalars, Tensor positive, int64_t N,
                  int64_t positive_offset, int64_t stream) {
  positives({operand_of(rows, positive.numel()), operand_of(cols, N), floats(scalars),
             floats(positive), positive_offset},
            stream);
}

Kept kept_kind(const Tensor& kept) {
  if (kept.numel() == 0) return Kept::NOTHING;
  require(kept.is_contiguous() && kept.size(1) % 128 == 0, "expected kept rows in whole tiles");
  if (kept.scalar_type() == ScalarType::Short) return Kept::INT16;
  require(kept.scalar_type() == ScalarType::Float, "expected kept logits in int16 or float32");
  return Kept::FLOAT32;
}

template <auto LAUNCH>
void negative_sums_op(Tensor rows, Tensor cols, Tensor scalars, Tensor row_partial,
                      Tensor col_partial, Tensor positive, Tensor kept, int64_t M, int64_t N,
                      int64_t positive_offset, int64_t first_col_tile, int64_t num_col_tiles,
                      int64_t strip_tiles, int64_t num_strips, bool maximum, int64_t stream) {
  require(row_partial.numel() >= num_col_tiles * M && col_partial.numel() >= num_strips * N,
          "expected room for every partial");
  LAUNCH(
      {operand_of(rows, M), operand_of(cols, N), matrix_of(M, N, positive_offset), floats(scalars),
       floats(row_partial), floats(col_partial), floats(positive), kept.data_ptr(), size(kept, 0),
       size(kept, 1), static_cast<int32_t>(first_col_tile), static_cast<int32_t>(num_col_tiles),
       static_cast<int32_t>(strip_tiles), static_cast<int32_t>(num_strips)},
      maximum, kept_kind(kept), stream);
}

void finalise_op(Tensor rows, Tensor cols, Tensor scalars, Tensor partials, OptionalTensor maximum,
                 Tensor shift, Tensor total, int64_t N, int64_t positive_offset, int64_t stream) {
  const int64_t M = shift.numel();
  require(partials.size(1) == M && total.numel() == M, "expected a partial, a total per row");
  finalise(
      {operand_of(rows, M), operand_of(cols, N), matrix_of(M, N, positive_offset), floats(scalars),
       floats(partials), size(partials, 0), floats(maximum), floats(shift), floats(total)},
      stream);
}

GradientWeights weights_of(const Tensor& scalars, const Tensor& shift, const Tensor& grad_total,
                           const Tensor& grad_positive, int64_t M, int64_t N) {
  require(shift.numel() == M + N && grad_total.numel() == M + N && grad_positive.numel() == M,
          "expected a shift and a gradient per row and column");
  return {floats(scalars), floats(shift), floats(grad_total), floats(grad_positive)};
}

template <auto LAUNCH>
void logit_gradients_op(Tensor rows, Tensor cols, Tensor scalars, Tensor shift, Tensor grad_total,
                        Tensor grad_positive, Tensor block, int64_t N, int64_t positive_offset,
                        int64_t first_row, int64_t first_col, int64_t stream) {
  const int64_t M = grad_positive.numel();
  LAUNCH({operand_of(rows, rows.size(1)), operand_of(cols, N), matrix_of(M, N, positive_offset),
          weights_of(scalars, shift, grad_total, grad_positive, M, N),
          block_of(block, first_row, first_col)},
         stream);
}

void kept_gradients_op(Tensor kept, Tensor scalars, Tensor shift, Tensor grad_total,
                       Tensor grad_positive, Tensor block, int64_t N, int64_t positive_offset,
                       int64_t first_row, int64_t first_col, int64_t stream) {
  const int64_t M = grad_positive.numel();
  kept_gradients({kept.data_ptr(), kept_kind(kept) == Kept::FLOAT32, size(kept, 0), size(kept, 1),
                  matrix_of(M, N, positive_offset),
                  weights_of(scalars, shift, grad_total, grad_positive, M, N),
                  block_of(block, first_row, first_col)},
                 stream);
}

template <auto LAUNCH>
void sigmoid_tiles_op(Tensor rows, Tensor cols, Tensor scalars, OptionalTensor grad_row_loss,
                      Tensor row_partial, Tensor bias_partial, OptionalTensor block,
                      int64_t num_rows, int64_t num_cols, int64_t first_row, int64_t first_col,
                      int64_t M, int64_t N, int64_t positive_offset, bool with_loss,
                      int64_t stream) {
  GradientBlock region{nullptr,
                       1,
                       static_cast<int32_t>(num_rows),
                       static_cast<int32_t>(num_cols),
                       static_cast<int32_t>(first_row),
                       static_cast<int32_t>(first_col)};
  if (block.has_value()) region = block_of(*block, first_row, first_col);
  require(region.num_rows % 256 == 0 && region.num_cols % 256 == 0, "expected whole tiles");
  LAUNCH(
      {operand_of(rows, num_rows), operand_of(cols, N), matrix_of(M, N, positive_offset),
       floats(scalars), floats(grad_row_loss), floats(row_partial), floats(bias_partial), region},
      with_loss, stream);
}

void feature_gradient_op(Tensor acc, Tensor features, OptionalTensor norms, Tensor scalars,
                         int64_t unscale, OptionalTensor grad, Tensor grad_scale, int64_t stream) {
  require(acc.size(0) >= features.size(0) && acc.size(1) % 64 == 0 &&
              grad_scale.numel() == features.size(0),
          "expected a product and a part of d logit_scale per row");
  require(!grad.has_value() || grad->is_contiguous(), "expected a contiguous gradient");
  feature_gradient({floats(acc), acc.size(1), features_of(features), floats(norms), floats(scalars),
                    static_cast<int32_t>(unscale), grad.has_value() ? grad->data_ptr() : nullptr,
                    grad.has_value() ? dtype_of(*grad) : Dtype::FLOAT32, floats(grad_scale)},
                   stream);
}

}  // namespace
}  // namespace fastclip::cuda

// The emulator of tests/emulator has the same operators for the CPU, under another name.
#ifndef FASTCLIP_LIBRARY
#define FASTCLIP_LIBRARY fastclip_cuda
#define FASTCLIP_DISPATCH_KEY CUDA
#endif
#define EXPANDED_LIBRARY(name, m) STABLE_TORCH_LIBRARY(name, m)
#define EXPANDED_LIBRARY_IMPL(name, key, m) STABLE_TORCH_LIBRARY_IMPL(name, key, m)

EXPANDED_LIBRARY(FASTCLIP_LIBRARY, m) {
  m.def(
      "scalars(Tensor(a!) values, Tensor logit_scale, Tensor? logit_bias, Tensor? row_largest,"
      " Tensor? row_norm, Tensor? col_largest, Tensor? col_norm, Tensor? grad_total,"
      " Tensor? grad_positive, bool with_gradients, int longest_sum, int stream) -> ()");
  m.def(
      "prepare(Tensor features, Tensor? largest, Tensor(a!) values, Tensor(b!) norms, int stream)"
      " -> ()");
  m.def(
      "positives(Tensor rows, Tensor cols, Tensor scalars, Tensor(a!) positive, int N,"
      " int positive_offset, int stream) -> ()");
  m.def(
      "negative_sums(Tensor rows, Tensor cols, Tensor scalars, Tensor(a!) row_partial,"
      " Tensor(b!) col_partial, Tensor(c!) positive, Tensor(d!) kept, int M, int N,"
      " int positive_offset, int first_col_tile, int num_col_tiles, int strip_tiles,"
      " int num_strips, bool maximum, int stream) -> ()");
  m.def(
      "hopper_negative_sums(Tensor rows, Tensor cols, Tensor scalars, Tensor(a!) row_partial,"
      " Tensor(b!) col_partial, Tensor(c!) positive, Tensor(d!) kept, int M, int N,"
      " int positive_offset, int first_col_tile, int num_col_tiles, int strip_tiles,"
      " int num_strips, bool maximum, int stream) -> ()");
  m.def(
      "finalise(Tensor rows, Tensor cols, Tensor scalars, Tensor partials, Tensor? maximum,"
      " Tensor(a!) shift, Tensor(b!) total, int N, int positive_offset, int stream) -> ()");
  m.def(
      "logit_gradients(Tensor rows, Tensor cols, Tensor scalars, Tensor shift, Tensor grad_total,"
      " Tensor grad_positive, Tensor(a!) block, int N, int positive_offset, int first_row,"
      " int first_col, int stream) -> ()");
  m.def(
      "hopper_logit_gradients(Tensor rows, Tensor cols, Tensor scalars, Tensor shift, Tensor "
      "grad_total,"
      " Tensor grad_positive, Tensor(a!) block, int N, int positive_offset, int first_row,"
      " int first_col, int stream) -> ()");
  m.def(
      "kept_gradients(Tensor kept, Tensor scalars, Tensor shift, Tensor grad_total,"
      " Tensor grad_positive, Tensor(a!) block, int N, int positive_offset, int first_row,"
      " int first_col, int stream) -> ()");
  m.def(
      "sigmoid_tiles(Tensor rows, Tensor cols, Tensor scalars, Tensor? grad_row_loss,"
      " Tensor(a!) row_partial, Tensor(b!) bias_partial, Tensor(c!)? block, int num_rows,"
      " int num_cols, int first_row, int first_col, int M, int N, int positive_offset,"
      " bool with_loss, int stream) -> ()");
  m.def(
      "hopper_sigmoid_tiles(Tensor rows, Tensor cols, Tensor scalars, Tensor? grad_row_loss,"
      " Tensor(a!) row_partial, Tensor(b!) bias_partial, Tensor(c!)? block, int num_rows,"
      " int num_cols, int first_row, int first_col, int M, int N, int positive_offset,"
      " bool with_loss, int stream) -> ()");
  m.def(
      "feature_gradient(Tensor acc, Tensor features, Tensor? norms, Tensor scalars, int unscale,"
      " Tensor(a!)? grad, Tensor(b!) grad_scale, int stream) -> ()");
}

EXPANDED_LIBRARY_IMPL(FASTCLIP_LIBRARY, FASTCLIP_DISPATCH_KEY, m) {
  using namespace fastclip::cuda;
  m.impl("scalars", TORCH_BOX(&scalars_op));
  m.impl("prepare", TORCH_BOX(&prepare_op));
  m.impl("positives", TORCH_BOX(&positives_op));
  m.impl("negative_sums", TORCH_BOX(&negative_sums_op<negative_sums>));
  m.impl("hopper_negative_sums", TORCH_BOX(&negative_sums_op<hopper_negative_sums>));
  m.impl("finalise", TORCH_BOX(&finalise_op));
  m.impl("logit_gradients", TORCH_BOX(&logit_gradients_op<logit_gradients>));
  m.impl("hopper_logit_gradients", TORCH_BOX(&logit_gradients_op<hopper_logit_gradients>));
  m.impl("kept_gradients", TORCH_BOX(&kept_gradients_op));
  m.impl("sigmoid_tiles", TORCH_BOX(&sigmoid_tiles_op<sigmoid_tiles>));
  m.impl("hopper_sigmoid_tiles", TORCH_BOX(&sigmoid_tiles_op<hopper_sigmoid_tiles>));
  m.impl("feature_gradient", TORCH_BOX(&feature_gradient_op));
}
