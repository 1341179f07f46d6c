// The CLIP loss of a square whose logits are one panel and one block, in as few calls as its
// products allow: of the forward one, of the backward one before the vendor's products and one
// behind them. Called by fastclip/backends/cuda/clip_loss.py, which documents them.
//
// The backward has of the forward: operands, kept logits, and `statistics`, which are positive (N,),
// shift (2 N,), total (2 N,) and what operands were made by: norms (2 N,), or where features are
// not normalised their extents.
//
// Each kernel is launched here in the order of fastclip/backends/gpu/contrastive.py; csrc/README.md
// says why there are two. Memory is allocated here, through torch's stable ABI: a call from Python
// for each buffer would take longer than the kernels of a small batch.
#include <torch/csrc/stable/ops.h>

#include <initializer_list>
#include <tuple>

#include "arguments.h"
#include "cross_entropy.h"
#include "feature_gradients.h"
#include "finalise.h"
#include "kernel_sets.h"
#include "library.h"
#include "operands.h"
#include "pairs.h"

namespace fastclip::cuda {
namespace {

constexpr ScalarType FLOAT = ScalarType::Float, HALF = ScalarType::Half;

// Uninitialised, contiguous, on the device of `like`.
Tensor empty(const Tensor& like, ScalarType type, std::initializer_list<int64_t> shape) {
  return torch::stable::new_empty(like, shape, type);
}

float* floats(const Tensor& of) { return static_cast<float*>(of.data_ptr()); }

// Features of a square, and how they are prepared.
struct Square {
  Square(const Arguments& of, const Tensor& row_features, const Tensor& col_features,
         int64_t planes)
      : rows(of.features(row_features)),
        cols(of.features(col_features)),
        N(rows.rows),
        planes(of.number("planes", planes, 1, 2)),
        plane_rows(tiles(N, ROW_MULTIPLE) * ROW_MULTIPLE),
        dim(tiles(rows.D, DIM_MULTIPLE) * DIM_MULTIPLE) {
    of.require(rows.rows == cols.rows && rows.D == cols.D && rows.dtype == cols.dtype,
               "cols must be of the shape and dtype of rows, got ", col_features);
  }

  LogitMatrix matrix() const { return {N, N, 0}; }

  // (2 sides, planes, plane_rows, dim)
  Tensor new_operands(const Tensor& like) const {
    return empty(like, HALF, {2, planes, plane_rows, dim});
  }

  Operand operand(const Tensor& operands, int side) const {
    const int64_t bytes = int64_t{2} * planes * plane_rows * dim;
    return {static_cast<char*>(operands.data_ptr()) + side * bytes, planes, plane_rows, dim, N};
  }

  Preparation preparation(const Tensor& operands, int side, float* norms) const {
    return {side == 0 ? rows : cols,
            nullptr,
            const_cast<void*>(operand(operands, side).values),
            norms + int64_t{side} * N,
            planes,
            plane_rows,
            dim};
  }

  int32_t kept_cols() const { return tiles(N, KEPT_MULTIPLE) * KEPT_MULTIPLE; }
  int64_t kept_bytes() const { return int64_t{kept_cols()} * (kind() == Kept::INT16 ? 2 : 4); }
  Kept kind() const { return rows.dtype == Dtype::FLOAT32 ? Kept::FLOAT32 : Kept::INT16; }

  int64_t num_statistics(bool normalize) const {
    // Extents are (2 sides, of each ROWS_OF_EXTENT rows, 2).
    return int64_t{5} * N + (normalize ? int64_t{2} * N : 4 * tiles(N, ROWS_OF_EXTENT));
  }
  Statistics statistics(const float* of) const { return {of, of + N, of + int64_t{3} * N, N}; }
  // Norms, or extents.
  template <typename Float>
  Float* made_by(Float* statistics) const {
    return statistics + int64_t{5} * N;
  }

  Features rows, cols;
  int32_t N, planes, plane_rows, dim;
};

template <typename Kernels>
std::tuple<Tensor, Tensor, Tensor, Tensor> clip_loss_op(Tensor row_features, Tensor col_features,
                                                        Tensor logit_scale, bool normalize,
                                                        int64_t planes, bool keep,
                                                        int64_t strip_tiles, int64_t num_strips,
                                                        int64_t stream) {
  const Arguments of("clip_loss", row_features);
  const Square square(of, row_features, col_features, planes);
  const float* const scale = of.floats("logit_scale", logit_scale, 1);
  const int64_t N = square.N, num_tiles = tiles(N, Kernels::BLOCK);
  of.number("strip_tiles", strip_tiles, 1, num_tiles);
  of.number("num_strips", num_strips, tiles(num_tiles, strip_tiles), tiles(num_tiles, strip_tiles));

  const Tensor loss = empty(row_features, FLOAT, {});
  const Tensor statistics = empty(row_features, FLOAT, {square.num_statistics(normalize)});
  const Tensor kept = empty(row_features, ScalarType::Byte, {keep ? N : 0, square.kept_bytes()});
  const Tensor operands = square.new_operands(row_features);
  const int64_t row_partials = num_tiles, col_partials = Kernels::STRIP_PARTIALS * num_strips;
  const Tensor vectors =
      empty(row_features, FLOAT, {NUM_SCALARS + (row_partials + col_partials) * N});
  float* const scalars = floats(vectors);
  float* const row_partial = scalars + NUM_SCALARS;
  float* const col_partial = row_partial + row_partials * N;
  const Operand rows = square.operand(operands, 0), cols = square.operand(operands, 1);
  float* const positive = floats(statistics);
  float *const shifts = positive + N, *const totals = shifts + 2 * N;
  float* const made_by = square.made_by(positive);

  if (!normalize) extents({square.rows, square.cols, made_by}, stream);
  pairs({square.preparation(operands, 0, made_by), square.preparation(operands, 1, made_by), scale,
         normalize ? nullptr : made_by, scalars, positive},
        stream);
  Kernels::NEGATIVE_SUMS(
      {rows, cols, square.matrix(), scalars, row_partial, col_partial, nullptr, kept.data_ptr(),
       keep ? square.N : 0, keep ? square.kept_cols() : 0, 0, static_cast<int32_t>(num_tiles),
       static_cast<int32_t>(strip_tiles), static_cast<int32_t>(num_strips)},
      false, keep ? square.kind() : Kept::NOTHING, stream);
  finalise_both({{{rows, cols, square.matrix(), scalars, row_partial,
                   static_cast<int32_t>(row_partials), nullptr, shifts, totals},
                  {cols, rows, square.matrix(), scalars, col_partial,
                   static_cast<int32_t>(col_partials), nullptr, shifts + N, totals + N}}},
                stream);
  mean_loss({square.statistics(positive), floats(loss)}, stream);
  return {loss, statistics, kept, operands};
}

template <typename Kernels>
std::tuple<Tensor, Tensor, Tensor> clip_loss_block_op(Tensor row_features, Tensor logit_scale,
                                                      Tensor grad_loss, Tensor statistics,
                                                      Tensor kept, Tensor operands, bool normalize,
                                                      int64_t num_products, int64_t stream) {
  const Arguments of("clip_loss_block", row_features);
  const int64_t planes = operands.dim() == 4 ? operands.size(1) : 0;
  const Square square(of, row_features, row_features, planes);  // columns are like rows
  const int64_t N = square.N;
  of.require(of.is_contiguous(operands, HALF) && of.is_aligned(operands) && operands.size(0) == 2 &&
                 operands.size(2) == square.plane_rows && operands.size(3) == square.dim,
             "operands must be contiguous float16 [2, 1 or 2, ", square.plane_rows, ", ",
             square.dim, "] on the same device and aligned to 16 bytes, got ", operands);
  of.number("num_products", num_products, 1, 2);
  const bool keep = kept.numel() > 0;
  of.require(!keep || (of.is_contiguous(kept, ScalarType::Byte) && of.is_aligned(kept) &&
                       kept.numel() == N * square.kept_bytes()),
             "kept must be contiguous uint8 [", N, ", ", square.kept_bytes(),
             "] on the same device and aligned to 16 bytes, got ", kept);
  const float* const found = of.floats("statistics", statistics, square.num_statistics(normalize));
  const Statistics of_pairs = square.statistics(found);

  const Tensor block =
      empty(row_features, HALF, {square.planes, square.plane_rows, square.plane_rows});
  const Tensor products = empty(row_features, FLOAT, {num_products, square.plane_rows, square.dim});
  const Tensor vectors = empty(row_features, FLOAT, {NUM_SCALARS + 5 * N});
  float* const scalars = floats(vectors);
  float *const grad_total = scalars + NUM_SCALARS, *const grad_positive = grad_total + 2 * N;

  statistics_gradients({of_pairs, of.floats("grad_loss", grad_loss, 1), grad_total, grad_positive,
                        of.floats("logit_scale", logit_scale, 1),
                        normalize ? nullptr : square.made_by(found), scalars},
                       stream);
  const GradientWeights weights{scalars, of_pairs.shift, grad_total, grad_positive};
  const GradientBlock whole{
      block.data_ptr(), square.planes, square.plane_rows, square.plane_rows, 0, 0};
  if (keep)
    kept_gradients({kept.data_ptr(), square.kind() == Kept::FLOAT32, square.N, square.kept_cols(),
                    square.matrix(), weights, whole},
                   stream);
  else
    Kernels::LOGIT_GRADIENTS(
        {square.operand(operands, 0), square.operand(operands, 1), square.matrix(), weights, whole},
        stream);
  return {block, products, vectors};
}

std::tuple<Tensor, Tensor, Tensor> clip_loss_features_op(Tensor row_features, Tensor col_features,
                                                         Tensor products, Tensor vectors,
                                                         Tensor statistics, bool normalize,
                                                         bool of_rows, bool of_cols,
                                                         int64_t stream) {
  const Arguments of("clip_loss_features", row_features);
  const Square square(of, row_features, col_features, 1);
  const int64_t N = square.N;
  // Without a gradient of either side, that of logit_scale comes from the rows' product.
  const bool row_product = of_rows || !of_cols;
  const int64_t size = int64_t{square.plane_rows} * square.dim;
  float* const acc = of.floats("products", products, (row_product + of_cols) * size);
  float* const scalars = of.floats("vectors", vectors, NUM_SCALARS + 5 * N);
  float* const of_sides = scalars + NUM_SCALARS + 3 * N;  // behind the gradients of statistics
  const float* const norms =
      square.made_by(of.floats("statistics", statistics, square.num_statistics(normalize)));

  const ScalarType type = row_features.scalar_type();
  const Tensor grad_row =
      of_rows ? empty(row_features, type, {N, square.rows.D}) : empty(row_features, type, {0});
  const Tensor grad_col =
      of_cols ? empty(row_features, type, {N, square.rows.D}) : empty(row_features, type, {0});
  const Tensor grad_scale = empty(row_features, FLOAT, {});
  feature_gradients(
      {{{row_product ? acc : nullptr, square.dim, square.rows, normalize ? norms : nullptr, scalars,
         GRAD_ROW, of_rows ? grad_row.data_ptr() : nullptr, square.rows.dtype, of_sides},
        {of_cols ? acc + row_product * size : nullptr, square.dim, square.cols,
         normalize ? norms + N : nullptr, scalars, GRAD_COL,
         of_cols ? grad_col.data_ptr() : nullptr, square.rows.dtype, of_sides + N}}},
      stream);
  scale_gradient({row_product ? of_sides : of_sides + N, square.N, floats(grad_scale)}, stream);
  return {grad_row, grad_col, grad_scale};
}

}  // namespace
}  // namespace fastclip::cuda

#define CLIP_LOSS_SCHEMA                                                                  \
  "(Tensor rows, Tensor cols, Tensor logit_scale, bool normalize, int planes, bool keep," \
  " int strip_tiles, int num_strips, int stream)"                                         \
  " -> (Tensor, Tensor, Tensor, Tensor)"
#define BLOCK_SCHEMA                                                                    \
  "(Tensor rows, Tensor logit_scale, Tensor grad_loss, Tensor statistics, Tensor kept," \
  " Tensor operands, bool normalize, int num_products, int stream)"                     \
  " -> (Tensor, Tensor, Tensor)"

EXPANDED_LIBRARY_FRAGMENT(FASTCLIP_LIBRARY, m) {
  m.def("clip_loss" CLIP_LOSS_SCHEMA);
  m.def("hopper_clip_loss" CLIP_LOSS_SCHEMA);
  m.def("clip_loss_block" BLOCK_SCHEMA);
  m.def("hopper_clip_loss_block" BLOCK_SCHEMA);
  m.def(
      "clip_loss_features(Tensor rows, Tensor cols, Tensor products, Tensor vectors,"
      " Tensor statistics, bool normalize, bool of_rows, bool of_cols, int stream)"
      " -> (Tensor, Tensor, Tensor)");
}

EXPANDED_LIBRARY_IMPL(FASTCLIP_LIBRARY, FASTCLIP_DISPATCH_KEY, m) {
  using namespace fastclip::cuda;
  m.impl("clip_loss", TORCH_BOX(&clip_loss_op<Portable>));
  m.impl("hopper_clip_loss", TORCH_BOX(&clip_loss_op<Hopper>));
  m.impl("clip_loss_block", TORCH_BOX(&clip_loss_block_op<Portable>));
  m.impl("hopper_clip_loss_block", TORCH_BOX(&clip_loss_block_op<Hopper>));
  m.impl("clip_loss_features", TORCH_BOX(&clip_loss_features_op));
}
