// The CLIP loss of a square whose logits are one panel and one block, in as few calls as its
// products allow: of the forward one, of the backward one before the vendor's products and one
// behind them. Called by fastclip/backends/cuda/clip_loss.py, which documents them.
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

  // (2 sides, of each ROWS_OF_EXTENT rows, 2), of features that are not normalised.
  int64_t num_extents(bool normalize) const { return normalize ? 0 : 4 * tiles(N, ROWS_OF_EXTENT); }

  Features rows, cols;
  int32_t N, planes, plane_rows, dim;
};

template <typename Kernels>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> clip_loss_op(
    Tensor row_features, Tensor col_features, Tensor logit_scale, bool normalize, int64_t planes,
    bool keep, int64_t strip_tiles, int64_t num_strips, int64_t stream) {
  const Arguments of("clip_loss", row_features);
  const Square square(of, row_features, col_features, planes);
  const float* const scale = of.floats("logit_scale", logit_scale, 1);
  const int64_t N = square.N, num_tiles = tiles(N, Kernels::BLOCK);
  of.number("strip_tiles", strip_tiles, 1, num_tiles);
  of.number("num_strips", num_strips, tiles(num_tiles, strip_tiles), tiles(num_tiles, strip_tiles));

  const Tensor loss = empty(row_features, FLOAT, {}), positive = empty(row_features, FLOAT, {N});
  const Tensor shift = empty(row_features, FLOAT, {2, N}),
               total = empty(row_features, FLOAT, {2, N});
  const Tensor extent = empty(row_features, FLOAT, {square.num_extents(normalize)});
  const Tensor kept = empty(row_features, ScalarType::Byte, {keep ? N : 0, square.kept_bytes()});

  const Tensor operands = square.new_operands(row_features);
  const int64_t row_partials = num_tiles, col_partials = Kernels::STRIP_PARTIALS * num_strips;
  const Tensor vectors =
      empty(row_features, FLOAT, {NUM_SCALARS + (2 + row_partials + col_partials) * N});
  float* const scalars = floats(vectors);
  float* const norms = scalars + NUM_SCALARS;
  float* const row_partial = norms + 2 * N;
  float* const col_partial = row_partial + row_partials * N;
  const Operand rows = square.operand(operands, 0), cols = square.operand(operands, 1);
  float *const shifts = floats(shift), *const totals = floats(total);

  if (!normalize) extents({square.rows, square.cols, floats(extent)}, stream);
  pairs({square.preparation(operands, 0, norms), square.preparation(operands, 1, norms), scale,
         normalize ? nullptr : floats(extent), scalars, floats(positive)},
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
  mean_loss({{floats(positive), shifts, totals, square.N}, floats(loss)}, stream);
  return {loss, positive, shift, total, kept, extent};
}

template <typename Kernels>
std::tuple<Tensor, Tensor, Tensor, Tensor> clip_loss_block_op(
    Tensor row_features, Tensor col_features, Tensor logit_scale, Tensor grad_loss, Tensor positive,
    Tensor shift, Tensor total, Tensor kept, Tensor extent, bool normalize, int64_t planes,
    int64_t num_products, int64_t stream) {
  const Arguments of("clip_loss_block", row_features);
  const Square square(of, row_features, col_features, planes);
  const int64_t N = square.N;
  of.number("num_products", num_products, 1, 2);
  const bool keep = kept.numel() > 0;
  of.require(!keep || (of.is_contiguous(kept, ScalarType::Byte) && of.is_aligned(kept) &&
                       kept.numel() == N * square.kept_bytes()),
             "kept must be contiguous uint8 [", N, ", ", square.kept_bytes(),
             "] on the same device and aligned to 16 bytes, got ", kept);
  const float* const found = of.floats("extent", extent, square.num_extents(normalize));
  const Statistics statistics{of.floats("positive", positive, N), of.floats("shift", shift, 2 * N),
                              of.floats("total", total, 2 * N), square.N};

  const Tensor operands = square.new_operands(row_features);
  const Tensor block =
      empty(row_features, HALF, {square.planes, square.plane_rows, square.plane_rows});
  const Tensor products = empty(row_features, FLOAT, {num_products, square.plane_rows, square.dim});
  const Tensor vectors = empty(row_features, FLOAT, {NUM_SCALARS + 5 * N});
  float* const scalars = floats(vectors);
  float* const norms = scalars + NUM_SCALARS;
  float *const grad_total = norms + 2 * N, *const grad_positive = grad_total + 2 * N;
  const float* const scale = of.floats("logit_scale", logit_scale, 1);
  const float* const extents = normalize ? nullptr : found;

  statistics_gradients({statistics, of.floats("grad_loss", grad_loss, 1), grad_total, grad_positive,
                        scale, extents, scalars},
                       stream);
  pairs({square.preparation(operands, 0, norms), square.preparation(operands, 1, norms), scale,
         extents, nullptr, nullptr},
        stream);
  const GradientWeights weights{scalars, statistics.shift, grad_total, grad_positive};
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
  return {operands, block, products, vectors};
}

std::tuple<Tensor, Tensor, Tensor> clip_loss_features_op(Tensor row_features, Tensor col_features,
                                                         Tensor products, Tensor vectors,
                                                         bool normalize, bool of_rows, bool of_cols,
                                                         int64_t stream) {
  const Arguments of("clip_loss_features", row_features);
  const Square square(of, row_features, col_features, 1);
  const int64_t N = square.N;
  // Without a gradient of either side, that of logit_scale comes from the rows' product.
  const bool row_product = of_rows || !of_cols;
  const int64_t size = int64_t{square.plane_rows} * square.dim;
  float* const acc = of.floats("products", products, (row_product + of_cols) * size);
  float* const scalars = of.floats("vectors", vectors, NUM_SCALARS + 5 * N);
  const float* const norms = scalars + NUM_SCALARS;

  const ScalarType type = row_features.scalar_type();
  const Tensor grad_row =
      of_rows ? empty(row_features, type, {N, square.rows.D}) : empty(row_features, type, {0});
  const Tensor grad_col =
      of_cols ? empty(row_features, type, {N, square.rows.D}) : empty(row_features, type, {0});
  const Tensor grad_scale = empty(row_features, FLOAT, {});
  const Tensor scales = empty(row_features, FLOAT, {2 * N});
  float* const of_sides = floats(scales);
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
  " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
#define BLOCK_SCHEMA                                                                     \
  "(Tensor rows, Tensor cols, Tensor logit_scale, Tensor grad_loss, Tensor positive,"    \
  " Tensor shift, Tensor total, Tensor kept, Tensor extent, bool normalize, int planes," \
  " int num_products, int stream) -> (Tensor, Tensor, Tensor, Tensor)"

EXPANDED_LIBRARY_FRAGMENT(FASTCLIP_LIBRARY, m) {
  m.def("clip_loss" CLIP_LOSS_SCHEMA);
  m.def("hopper_clip_loss" CLIP_LOSS_SCHEMA);
  m.def("clip_loss_block" BLOCK_SCHEMA);
  m.def("hopper_clip_loss_block" BLOCK_SCHEMA);
  m.def(
      "clip_loss_features(Tensor rows, Tensor cols, Tensor products, Tensor vectors,"
      " bool normalize, bool of_rows, bool of_cols, int stream) -> (Tensor, Tensor, Tensor)");
}

EXPANDED_LIBRARY_IMPL(FASTCLIP_LIBRARY, FASTCLIP_DISPATCH_KEY, m) {
  using namespace fastclip::cuda;
  m.impl("clip_loss", TORCH_BOX(&clip_loss_op<Portable>));
  m.impl("hopper_clip_loss", TORCH_BOX(&clip_loss_op<Hopper>));
  m.impl("clip_loss_block", TORCH_BOX(&clip_loss_block_op<Portable>));
  m.impl("hopper_clip_loss_block", TORCH_BOX(&clip_loss_block_op<Hopper>));
  m.impl("clip_loss_features", TORCH_BOX(&clip_loss_features_op));
}
