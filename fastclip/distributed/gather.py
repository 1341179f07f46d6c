"""The primitives of own rows and all columns at once.

`softmax_statistics` returns what `contrastive_lse` returns for a square of this rank's pairs, but
over the negatives of all ranks. The rows' sums are complete; of the columns' sums each rank has
a part, and their owners merge them: 2 N numbers of communication.

Everything is composed of operators and linear maps that know their gradients: those of the columns'
features, partial on every rank, return to their owners by the adjoint of `gather_rows`.
"""

import torch
from torch import Tensor

from fastclip.distributed.agreement import Ranks
from fastclip.distributed.exchange import gather_rows, send_to_owners
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import plan
from fastclip.ops.merge import merge
from fastclip.ops.total_sigmoid_loss import total_sigmoid_loss
from fastclip.rectangle import Diagonal, Rectangle


def softmax_statistics(
    own: Rectangle, ranks: Ranks, backend: str, workspace: int | None, needs_maximum: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns positive (B,), shift (2, B) and total (2, B): of own rows, then of own columns."""
    rectangle = _with_all_columns(own, ranks)
    call = plan("contrastive_lse", backend, rectangle, workspace)
    positive, shift, total, _ = contrastive_lse(rectangle, call, needs_maximum)
    row_shift, col_shift = shift.split(rectangle.lengths)
    row_total, col_total = total.split(rectangle.lengths)
    partials = send_to_owners(torch.stack((col_shift, col_total), 1), ranks)  # (W, B, 2)
    col_shift, col_total = merge([part.unbind(-1) for part in partials])
    return positive, torch.stack((row_shift, col_shift)), torch.stack((row_total, col_total))


def sigmoid_loss(
    own: Rectangle, logit_bias: Tensor, ranks: Ranks, backend: str, workspace: int | None
) -> Tensor:
    """Returns the sum over own rows and all columns, ()."""
    rectangle = _with_all_columns(own, ranks)
    call = plan("siglip_total", backend, rectangle, workspace, logit_bias)
    return total_sigmoid_loss(rectangle, logit_bias, call)


def _with_all_columns(own: Rectangle, ranks: Ranks) -> Rectangle:
    cols = gather_rows(own.cols, ranks)
    return own._replace(cols=cols, positives=Diagonal(ranks.start))
