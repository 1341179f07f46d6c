// Schemas of the native operators, shared by the devices that implement them.
#include <torch/library.h>

TORCH_LIBRARY(fastclip_native, m) {
  m.def(
      "contrastive_lse(Tensor row_features, Tensor col_features, Tensor logit_scale,"
      " int positive_offset, bool normalize, int kept_rows)"
      " -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "contrastive_lse_backward(Tensor grad_positive, Tensor grad_total, Tensor row_features,"
      " Tensor col_features, Tensor logit_scale, Tensor shift, Tensor kept, int positive_offset,"
      " bool normalize, bool needs_row_grad, bool needs_col_grad) -> (Tensor, Tensor, Tensor)");
  m.def(
      "siglip_sum(Tensor row_features, Tensor col_features, Tensor logit_scale, Tensor logit_bias,"
      " int positive_offset, bool normalize, int kept_rows) -> (Tensor, Tensor)");
  m.def(
      "siglip_sum_backward(Tensor grad_row_loss, Tensor row_features, Tensor col_features,"
      " Tensor logit_scale, Tensor logit_bias, Tensor kept, int positive_offset, bool normalize,"
      " bool needs_row_grad, bool needs_col_grad) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "clip_loss(Tensor row_features, Tensor col_features, Tensor logit_scale, bool mean,"
      " bool normalize, int kept_rows) -> (Tensor, Tensor, Tensor)");
}
