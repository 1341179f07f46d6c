"""The sigmoid loss of a square with ids: entries with one id are left out, or are positives."""

from torch import Tensor

from fastclip.ops.dispatch import plan
from fastclip.ops.pair_ids import PairIds, in_order
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.ops.sigmoid_positives import half_shares, positive_terms
from fastclip.ops.total_sigmoid_loss import total_sigmoid_loss
from fastclip.rectangle import Rectangle


def sigmoid_loss_with_ids(
    square: Rectangle,  # images as rows, pairs on the main diagonal
    logit_bias: Tensor,  # ()
    ids: PairIds,
    backend: str,
    workspace: int | None,
    mean: bool,
) -> Tensor:
    """Return the loss of each image (B,), or their mean ()."""
    here = in_order(square, *ids[:2])
    rectangle, B = here.rectangle, len(square.rows)
    further = None
    if ids.are_positives:
        images, texts = here.ids
        shares = half_shares(images, texts, texts), half_shares(texts, images, images)
        further = positive_terms(rectangle, logit_bias, *shares)
    if mean:
        call = plan("siglip_total", backend, rectangle, workspace, logit_bias)
        total = total_sigmoid_loss(rectangle, logit_bias, call)
        return (total if further is None else total + further.sum()) / B
    call = plan("siglip_sum", backend, rectangle, workspace, logit_bias)
    row_loss, _ = siglip_sum(rectangle, logit_bias, call)
    return here.restored(row_loss if further is None else row_loss + further)
