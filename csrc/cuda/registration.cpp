// The kernels as operators of torch.ops.fastclip_cuda, called by fastclip/backends/cuda, which
// makes all tensors and documents their shapes; arguments.h refuses what would read or write
// elsewhere.
//
// Only torch's stable ABI is used: one build serves every torch from 2.11 on, with CUDA or without.
// `stream` is the cudaStream_t that torch gives to Python.
#include <torch/csrc/stable/library.h>

#include "arguments.h"
#include "feature_gradients.h"
#include "finalise.h"
#include "kernel_sets.h"
#include "library.h"
#include "operands.h"
#include "positives.h"

namespace fastclip::cuda {
namespace {

void scalars_op(Tensor values, Tensor logit_scale, OptionalTensor logit_bias,
                OptionalTensor row_largest, OptionalTensor row_norm, OptionalTensor col_largest,
                OptionalTensor col_norm, OptionalTensor grad_total, OptionalTensor grad_positive,
                bool with_gradients, int64_t longest_sum, int64_t stream) {
  const Arguments of("scalars", values);
  const bool scaled = row_largest.has_value();
  of.require(row_norm.has_value() == scaled && col_largest.has_value() == scaled &&
                 col_norm.has_value() == scaled,
             "row_largest, row_norm, col_largest and col_norm must be given all or none");
  scalars({of.floats("values", values, NUM_SCALARS), of.floats("logit_scale", logit_scale, 1),
           of.floats("logit_bias", logit_bias, 1), of.floats("row_largest", row_largest, 1),
           of.floats("row_norm", row_norm, 1), of.floats("col_largest", col_largest, 1),
           of.floats("col_norm", col_norm, 1), of.floats("grad_total", grad_total, 1),
           of.floats("grad_positive", grad_positive, 1), with_gradients,
           of.number("longest_sum", longest_sum, 1, LARGEST)},
          stream);
}

void prepare_op(Tensor features, OptionalTensor largest, Tensor values, Tensor norms,
                int64_t stream) {
  const Arguments of("prepare", features);
  const Features given = of.features(features);
  const Operand operand = of.operand("values", values, given.rows);
  of.require(operand.dim == tiles(given.D, DIM_MULTIPLE) * DIM_MULTIPLE,
             "values must have the columns of features in whole tiles, got ", values);
  prepare({given, of.floats("largest", largest, 1), values.data_ptr(),
           of.floats("norms", norms, largest.has_value() ? 0 : given.rows), operand.planes,
           operand.plane_rows, operand.dim},
          stream);
}

void positives_op(Tensor rows, Tensor cols, Tensor scalars, Tensor positive, int64_t N,
                  int64_t positive_offset, int64_t stream) {
  const Arguments of("positives", rows);
  const LogitMatrix matrix = of.matrix(positive.numel(), N, positive_offset);
  const Operand row_operand = of.operand("rows", rows, matrix.M);
  const Operand col_operand = of.operand("cols", cols, N);
  of.match(row_operand, col_operand);
  positives({row_operand, col_operand, matrix, of.scalars(scalars),
             of.floats("positive", positive, matrix.M)},
            stream);
}

template <typename Kernels>
void negative_sums_op(Tensor rows, Tensor cols, Tensor scalars, Tensor row_partial,
                      Tensor col_partial, Tensor positive, Tensor kept, int64_t M, int64_t N,
                      int64_t positive_offset, OptionalTensor excluded_begin,
                      OptionalTensor excluded_end, int64_t first_col_tile, int64_t num_col_tiles,
                      int64_t strip_tiles, int64_t num_strips, bool maximum, int64_t stream) {
  const Arguments of("negative_sums", rows);
  const LogitMatrix matrix = of.matrix(M, N, positive_offset, excluded_begin, excluded_end);
  const Operand row_operand = of.operand("rows", rows, M),
                col_operand = of.operand("cols", cols, N);
  of.match(row_operand, col_operand);
  const Kept kind = of.kept(kept, matrix);
  const int64_t row_tiles = tiles(M, Kernels::BLOCK), col_tiles = tiles(N, Kernels::BLOCK);
  of.number("first_col_tile", first_col_tile, 0, col_tiles - 1);
  of.number("num_col_tiles", num_col_tiles, 1, col_tiles - first_col_tile);
  of.number("strip_tiles", strip_tiles, 1, row_tiles);
  of.number("num_strips", num_strips, tiles(row_tiles, strip_tiles), tiles(row_tiles, strip_tiles));
  const int64_t rows_of_partial = row_partial.dim() == 2 ? row_partial.size(0) : 0;
  of.number("rows of row_partial", rows_of_partial, num_col_tiles, LARGEST);
  Kernels::NEGATIVE_SUMS(
      {row_operand, col_operand, matrix, of.scalars(scalars),
       of.floats("row_partial", row_partial, rows_of_partial * M),
       of.floats("col_partial", col_partial, Kernels::STRIP_PARTIALS * num_strips * N),
       maximum ? of.floats("positive", positive, M) : nullptr, kept.data_ptr(),
       kind == Kept::NOTHING ? 0 : of.size(kept, 0), kind == Kept::NOTHING ? 0 : of.size(kept, 1),
       static_cast<int32_t>(first_col_tile), static_cast<int32_t>(num_col_tiles),
       static_cast<int32_t>(strip_tiles), static_cast<int32_t>(num_strips)},
      maximum, kind, stream);
}

void finalise_op(Tensor rows, Tensor cols, Tensor scalars, Tensor partials, OptionalTensor maximum,
                 Tensor shift, Tensor total, int64_t N, int64_t positive_offset,
                 OptionalTensor excluded_begin, OptionalTensor excluded_end, bool is_transposed,
                 int64_t stream) {
  const Arguments of("finalise", rows);
  LogitMatrix matrix = of.matrix(shift.numel(), N, positive_offset);
  const Excluded excluded =
      of.excluded(excluded_begin, excluded_end, is_transposed ? matrix.N : matrix.M);
  if (!is_transposed) matrix.excluded = excluded;
  const Operand row_operand = of.operand("rows", rows, matrix.M);
  const Operand col_operand = of.operand("cols", cols, N);
  of.match(row_operand, col_operand);
  const int64_t num_partials = partials.dim() == 2 ? partials.size(0) : 0;
  of.number("rows of partials", num_partials, 1, LARGEST);
  finalise(
      {row_operand, col_operand, matrix, of.scalars(scalars),
       of.floats("partials", partials, num_partials * matrix.M), static_cast<int32_t>(num_partials),
       of.floats("maximum", maximum, matrix.M), of.floats("shift", shift, matrix.M),
       of.floats("total", total, matrix.M), is_transposed ? excluded : Excluded{}},
      stream);
}

GradientWeights weights_of(const Arguments& of, const Tensor& scalars, const Tensor& shift,
                           const Tensor& grad_total, const Tensor& grad_positive,
                           const LogitMatrix& matrix) {
  const int64_t sides = int64_t{matrix.M} + matrix.N;
  return {of.scalars(scalars), of.floats("shift", shift, sides),
          of.floats("grad_total", grad_total, sides),
          of.floats("grad_positive", grad_positive, matrix.M)};
}

template <typename Kernels>
void logit_gradients_op(Tensor rows, Tensor cols, Tensor scalars, Tensor shift, Tensor grad_total,
                        Tensor grad_positive, Tensor block, int64_t N, int64_t positive_offset,
                        OptionalTensor excluded_begin, OptionalTensor excluded_end,
                        int64_t first_row, int64_t first_col, int64_t stream) {
  const Arguments of("logit_gradients", rows);
  const LogitMatrix matrix =
      of.matrix(grad_positive.numel(), N, positive_offset, excluded_begin, excluded_end);
  const GradientBlock region = of.block(block, first_row, first_col, matrix);
  const Operand row_operand = of.operand("rows", rows, region.num_rows);
  const Operand col_operand = of.operand("cols", cols, N);
  of.match(row_operand, col_operand);
  of.covers(col_operand, region);
  Kernels::LOGIT_GRADIENTS(
      {row_operand, col_operand, matrix,
       weights_of(of, scalars, shift, grad_total, grad_positive, matrix), region},
      stream);
}

void kept_gradients_op(Tensor kept, Tensor scalars, Tensor shift, Tensor grad_total,
                       Tensor grad_positive, Tensor block, int64_t N, int64_t positive_offset,
                       OptionalTensor excluded_begin, OptionalTensor excluded_end,
                       int64_t first_row, int64_t first_col, int64_t stream) {
  const Arguments of("kept_gradients", kept);
  const LogitMatrix matrix =
      of.matrix(grad_positive.numel(), N, positive_offset, excluded_begin, excluded_end);
  const Kept kind = of.kept(kept, matrix);
  of.require(kind != Kept::NOTHING && first_row < kept.size(0), "kept must hold row first_row, ",
             first_row, ", got ", kept);
  kept_gradients({kept.data_ptr(), kind == Kept::FLOAT32, of.size(kept, 0), of.size(kept, 1),
                  matrix, weights_of(of, scalars, shift, grad_total, grad_positive, matrix),
                  of.block(block, first_row, first_col, matrix)},
                 stream);
}

template <typename Kernels>
void sigmoid_tiles_op(Tensor rows, Tensor cols, Tensor scalars, OptionalTensor grad_row_loss,
                      Tensor row_partial, Tensor bias_partial, OptionalTensor block,
                      int64_t num_rows, int64_t num_cols, int64_t first_row, int64_t first_col,
                      int64_t M, int64_t N, int64_t positive_offset, OptionalTensor excluded_begin,
                      OptionalTensor excluded_end, bool with_loss, int64_t stream) {
  const Arguments of("sigmoid_tiles", rows);
  const LogitMatrix matrix = of.matrix(M, N, positive_offset, excluded_begin, excluded_end);
  of.require(with_loss || block.has_value(), "block must be given where with_loss is not set");
  const GradientBlock region = block.has_value()
                                   ? of.block(*block, first_row, first_col, matrix)
                                   : of.region(num_rows, num_cols, first_row, first_col, matrix);
  of.number("num_rows", num_rows, region.num_rows, region.num_rows);
  of.number("num_cols", num_cols, region.num_cols, region.num_cols);
  const Operand row_operand = of.operand("rows", rows, num_rows);
  const Operand col_operand = of.operand("cols", cols, N);
  of.match(row_operand, col_operand);
  of.covers(col_operand, region);
  const int64_t partial = num_cols / Kernels::BLOCK * num_rows;
  Kernels::SIGMOID_TILES(
      {row_operand, col_operand, matrix, of.scalars(scalars),
       of.floats("grad_row_loss", grad_row_loss, M),
       of.floats("row_partial", row_partial, with_loss ? partial : 0),
       of.floats("bias_partial", bias_partial, block.has_value() ? partial : 0), region},
      with_loss, stream);
}

void feature_gradient_op(Tensor acc, Tensor features, OptionalTensor norms, Tensor scalars,
                         int64_t unscale, OptionalTensor grad, Tensor grad_scale, int64_t stream) {
  const Arguments of("feature_gradient", acc);
  const Features given = of.features(features);
  of.require(of.is_contiguous(acc, ScalarType::Float) && acc.dim() == 2 && of.is_aligned(acc) &&
                 acc.size(0) >= given.rows && acc.size(1) >= given.D &&
                 acc.size(1) % DIM_MULTIPLE == 0,
             "acc must be contiguous float32 [at least ", given.rows, ", ", given.D,
             " in whole tiles], aligned to 16 bytes, got ", acc);
  of.require(!grad.has_value() || of.is_gradient(*grad, given),
             "grad must be contiguous and of the shape of features, on the same device");
  feature_gradient({static_cast<float*>(acc.data_ptr()), acc.size(1), given,
                    of.floats("norms", norms, given.rows), of.scalars(scalars),
                    of.number("unscale", unscale, GRAD_ROW, GRAD_COL),
                    grad.has_value() ? grad->data_ptr() : nullptr,
                    grad.has_value() ? of.dtype("grad", *grad) : Dtype::FLOAT32,
                    of.floats("grad_scale", grad_scale, given.rows)},
                   stream);
}

}  // namespace
}  // namespace fastclip::cuda

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
      " int positive_offset, Tensor? excluded_begin, Tensor? excluded_end, int first_col_tile,"
      " int num_col_tiles, int strip_tiles, int num_strips, bool maximum, int stream) -> ()");
  m.def(
      "hopper_negative_sums(Tensor rows, Tensor cols, Tensor scalars, Tensor(a!) row_partial,"
      " Tensor(b!) col_partial, Tensor(c!) positive, Tensor(d!) kept, int M, int N,"
      " int positive_offset, Tensor? excluded_begin, Tensor? excluded_end, int first_col_tile,"
      " int num_col_tiles, int strip_tiles, int num_strips, bool maximum, int stream) -> ()");
  m.def(
      "finalise(Tensor rows, Tensor cols, Tensor scalars, Tensor partials, Tensor? maximum,"
      " Tensor(a!) shift, Tensor(b!) total, int N, int positive_offset, Tensor? excluded_begin,"
      " Tensor? excluded_end, bool is_transposed, int stream) -> ()");
  m.def(
      "logit_gradients(Tensor rows, Tensor cols, Tensor scalars, Tensor shift, Tensor grad_total,"
      " Tensor grad_positive, Tensor(a!) block, int N, int positive_offset,"
      " Tensor? excluded_begin, Tensor? excluded_end, int first_row, int first_col, int stream)"
      " -> ()");
  m.def(
      "hopper_logit_gradients(Tensor rows, Tensor cols, Tensor scalars, Tensor shift, Tensor "
      "grad_total,"
      " Tensor grad_positive, Tensor(a!) block, int N, int positive_offset,"
      " Tensor? excluded_begin, Tensor? excluded_end, int first_row, int first_col, int stream)"
      " -> ()");
  m.def(
      "kept_gradients(Tensor kept, Tensor scalars, Tensor shift, Tensor grad_total,"
      " Tensor grad_positive, Tensor(a!) block, int N, int positive_offset,"
      " Tensor? excluded_begin, Tensor? excluded_end, int first_row, int first_col, int stream)"
      " -> ()");
  m.def(
      "sigmoid_tiles(Tensor rows, Tensor cols, Tensor scalars, Tensor? grad_row_loss,"
      " Tensor(a!) row_partial, Tensor(b!) bias_partial, Tensor(c!)? block, int num_rows,"
      " int num_cols, int first_row, int first_col, int M, int N, int positive_offset,"
      " Tensor? excluded_begin, Tensor? excluded_end, bool with_loss, int stream) -> ()");
  m.def(
      "hopper_sigmoid_tiles(Tensor rows, Tensor cols, Tensor scalars, Tensor? grad_row_loss,"
      " Tensor(a!) row_partial, Tensor(b!) bias_partial, Tensor(c!)? block, int num_rows,"
      " int num_cols, int first_row, int first_col, int M, int N, int positive_offset,"
      " Tensor? excluded_begin, Tensor? excluded_end, bool with_loss, int stream) -> ()");
  m.def(
      "feature_gradient(Tensor acc, Tensor features, Tensor? norms, Tensor scalars, int unscale,"
      " Tensor(a!)? grad, Tensor(b!) grad_scale, int stream) -> ()");
}

EXPANDED_LIBRARY_IMPL(FASTCLIP_LIBRARY, FASTCLIP_DISPATCH_KEY, m) {
  using namespace fastclip::cuda;
  m.impl("scalars", TORCH_BOX(&scalars_op));
  m.impl("prepare", TORCH_BOX(&prepare_op));
  m.impl("positives", TORCH_BOX(&positives_op));
  m.impl("negative_sums", TORCH_BOX(&negative_sums_op<Portable>));
  m.impl("hopper_negative_sums", TORCH_BOX(&negative_sums_op<Hopper>));
  m.impl("finalise", TORCH_BOX(&finalise_op));
  m.impl("logit_gradients", TORCH_BOX(&logit_gradients_op<Portable>));
  m.impl("hopper_logit_gradients", TORCH_BOX(&logit_gradients_op<Hopper>));
  m.impl("kept_gradients", TORCH_BOX(&kept_gradients_op));
  m.impl("sigmoid_tiles", TORCH_BOX(&sigmoid_tiles_op<Portable>));
  m.impl("hopper_sigmoid_tiles", TORCH_BOX(&sigmoid_tiles_op<Hopper>));
  m.impl("feature_gradient", TORCH_BOX(&feature_gradient_op));
}
