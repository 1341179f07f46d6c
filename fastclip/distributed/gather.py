"""The primitives of own rows and all columns at once.

`contrastive_lse` returns what the operator of that name returns for a square of this rank's pairs,
but over the negatives of all ranks. The rows' sums are complete; of the columns' sums each rank has
a part, and their owners merge them: 2 N numbers of communication.

Everything is composed of operators and linear maps that know their gradients: those of the columns'
features, partial on every rank, return to their owners by the adjoint of `gather_rows`.
"""

import torch
from torch import Tensor

from fastclip.distributed.agreement import Ranks
from fastclip.distributed.exchange import gather_rows, send_to_owners
from fastclip.distributed.merge import merge
from fastclip.ops import contrastive_lse as rectangle
from fastclip.ops.kept_rows import kept_rows
from fastclip.ops.total_sigmoid_loss import total_sigmoid_loss


def contrastive_lse(
    row_features: Tensor,  # (B, D)
    col_features: Tensor,  # (B, D)
    logit_scale: Tensor,  # ()
    ranks: Ranks,
    normalize: bool,
    backend: str,
    workspace: int | None,
    needs_maximum: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns positive (B,), shift (2, B) and total (2, B): of own rows, then of own columns."""
    inputs = row_features, gather_rows(col_features, ranks), logit_scale
    kept = kept_rows(backend, "contrastive_lse", workspace, *inputs)
    positive, shift, total, _ = rectangle.contrastive_lse(
        *inputs, ranks.start, normalize, backend, workspace, kept, needs_maximum
    )
    row_shift, col_shift = shift.split([ranks.own_size, ranks.num_pairs])
    row_total, col_total = total.split([ranks.own_size, ranks.num_pairs])
    partials = send_to_owners(torch.stack((col_shift, col_total), 1), ranks)  # (W, B, 2)
    col_shift, col_total = merge(*partials.unbind(-1))
    return positive, torch.stack((row_shift, col_shift)), torch.stack((row_total, col_total))


def sigmoid_loss(
    row_features: Tensor,  # (B, D)
    col_features: Tensor,  # (B, D)
    logit_scale: Tensor,  # ()
    logit_bias: Tensor,  # ()
    ranks: Ranks,
    normalize: bool,
    backend: str,
    workspace: int | None,
) -> Tensor:
    """Returns the sum over own rows and all columns, ()."""
    return total_sigmoid_loss(
        row_features, gather_rows(col_features, ranks), logit_scale, logit_bias, ranks.start,
        normalize, backend, workspace,
    )  # fmt: skip
