// The native operators, for tensors on the CPU. Called by fastclip/backends/cpu.py, which documents
// the arguments; the public operators are fastclip::*, registered in fastclip/ops.
//
// A schema is flat: torch takes no struct. It begins with the rectangle, in the order of the public
// operators' (fastclip/ops/schemas.py); behind it the rectangle is one object.
#include <torch/library.h>

#include "clip_loss.h"
#include "contrastive_lse.h"
#include "prefix_lse.h"
#include "rectangle.h"
#include "siglip_loss.h"
#include "siglip_sum.h"

#define FASTCLIP_RECTANGLE                                              \
  "Tensor row_features, Tensor col_features, Tensor logit_scale,"       \
  " Tensor? excluded_begin, Tensor? excluded_end, int positive_offset," \
  " bool normalize"
#define FASTCLIP_SQUARE "Tensor row_features, Tensor col_features, Tensor logit_scale"

namespace fastclip::cpu {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

auto contrastive_lse_op(const at::Tensor& rows, const at::Tensor& cols,
                        const at::Tensor& logit_scale, const OptionalTensor& begin,
                        const OptionalTensor& end, int64_t offset, bool normalize,
                        int64_t kept_rows) {
  return contrastive_lse({rows, cols, logit_scale, {begin, end}, {offset}, normalize}, kept_rows);
}

auto contrastive_lse_backward_op(const at::Tensor& rows, const at::Tensor& cols,
                                 const at::Tensor& logit_scale, const OptionalTensor& begin,
                                 const OptionalTensor& end, int64_t offset, bool normalize,
                                 const at::Tensor& grad_positive, const at::Tensor& grad_total,
                                 const at::Tensor& shift, const at::Tensor& kept,
                                 bool needs_row_grad, bool needs_col_grad) {
  return contrastive_lse_backward({rows, cols, logit_scale, {begin, end}, {offset}, normalize},
                                  grad_positive, grad_total, shift, kept,
                                  {needs_row_grad, needs_col_grad});
}

// Pairs are on the main diagonal, and nothing is left out.
auto prefix_lse_op(const at::Tensor& rows, const at::Tensor& cols, const at::Tensor& logit_scale,
                   at::IntArrayRef dims, int64_t kept_rows) {
  return prefix_lse({rows, cols, logit_scale, {}, {}, true}, dims, kept_rows);
}

auto prefix_lse_backward_op(const at::Tensor& rows, const at::Tensor& cols,
                            const at::Tensor& logit_scale, at::IntArrayRef dims,
                            const at::Tensor& grad_positive, const at::Tensor& grad_total,
                            const at::Tensor& positive, const at::Tensor& maximum,
                            const at::Tensor& kept, bool needs_row_grad, bool needs_col_grad) {
  return prefix_lse_backward({rows, cols, logit_scale, {}, {}, true}, dims, grad_positive,
                             grad_total, positive, maximum, kept, {needs_row_grad, needs_col_grad});
}

auto siglip_sum_op(const at::Tensor& rows, const at::Tensor& cols, const at::Tensor& logit_scale,
                   const OptionalTensor& begin, const OptionalTensor& end, int64_t offset,
                   bool normalize, const at::Tensor& logit_bias, int64_t kept_rows) {
  return siglip_sum({rows, cols, logit_scale, {begin, end}, {offset}, normalize}, logit_bias,
                    kept_rows);
}

auto siglip_sum_backward_op(const at::Tensor& rows, const at::Tensor& cols,
                            const at::Tensor& logit_scale, const OptionalTensor& begin,
                            const OptionalTensor& end, int64_t offset, bool normalize,
                            const at::Tensor& logit_bias, const at::Tensor& grad_row_loss,
                            const at::Tensor& kept, bool needs_row_grad, bool needs_col_grad) {
  return siglip_sum_backward({rows, cols, logit_scale, {begin, end}, {offset}, normalize},
                             logit_bias, grad_row_loss, kept, {needs_row_grad, needs_col_grad});
}

auto siglip_total_op(const at::Tensor& rows, const at::Tensor& cols, const at::Tensor& logit_scale,
                     const OptionalTensor& begin, const OptionalTensor& end, int64_t offset,
                     bool normalize, const at::Tensor& logit_bias, at::ScalarType grad_dtype,
                     bool needs_row_grad, bool needs_col_grad) {
  return siglip_total({rows, cols, logit_scale, {begin, end}, {offset}, normalize}, logit_bias,
                      grad_dtype, {needs_row_grad, needs_col_grad});
}

}  // namespace
}  // namespace fastclip::cpu

TORCH_LIBRARY(fastclip_native, m) {
  m.def("contrastive_lse(" FASTCLIP_RECTANGLE
        ", int kept_rows) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("contrastive_lse_backward(" FASTCLIP_RECTANGLE
        ", Tensor grad_positive, Tensor grad_total, Tensor shift, Tensor kept, bool needs_row_grad,"
        " bool needs_col_grad) -> (Tensor, Tensor, Tensor)");
  m.def("prefix_lse(" FASTCLIP_SQUARE
        ", int[] dims, int kept_rows) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("prefix_lse_backward(" FASTCLIP_SQUARE
        ", int[] dims, Tensor grad_positive, Tensor grad_total, Tensor positive,"
        " Tensor maximum, Tensor kept, bool needs_row_grad, bool needs_col_grad) -> (Tensor, "
        "Tensor, Tensor)");
  m.def("siglip_sum(" FASTCLIP_RECTANGLE ", Tensor logit_bias, int kept_rows) -> (Tensor, Tensor)");
  m.def("siglip_sum_backward(" FASTCLIP_RECTANGLE
        ", Tensor logit_bias, Tensor grad_row_loss, Tensor kept, bool needs_row_grad,"
        " bool needs_col_grad) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("siglip_total(" FASTCLIP_RECTANGLE
        ", Tensor logit_bias, ScalarType grad_dtype, bool needs_row_grad, bool needs_col_grad)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("clip_loss(" FASTCLIP_SQUARE
        ", bool mean,"
        " bool normalize, int kept_rows) -> (Tensor, Tensor, Tensor)");
  m.def("siglip_loss(" FASTCLIP_SQUARE ", Tensor logit_bias, bool normalize) -> Tensor");
}

// Of every device and layout, so that those which they cannot take are refused in their own words.
TORCH_LIBRARY_IMPL(fastclip_native, CompositeExplicitAutograd, m) {
  m.impl("contrastive_lse", fastclip::cpu::contrastive_lse_op);
  m.impl("contrastive_lse_backward", fastclip::cpu::contrastive_lse_backward_op);
  m.impl("prefix_lse", fastclip::cpu::prefix_lse_op);
  m.impl("prefix_lse_backward", fastclip::cpu::prefix_lse_backward_op);
  m.impl("siglip_sum", fastclip::cpu::siglip_sum_op);
  m.impl("siglip_sum_backward", fastclip::cpu::siglip_sum_backward_op);
  m.impl("siglip_total", fastclip::cpu::siglip_total_op);
}

// Bring their own gradients.
TORCH_LIBRARY_IMPL(fastclip_native, CompositeImplicitAutograd, m) {
  m.impl("clip_loss", fastclip::cpu::clip_loss);
  m.impl("siglip_loss", fastclip::cpu::siglip_loss);
}
