"""The schedule "gather": the primitives over own rows and all columns at once.

`softmax_statistics` returns what `contrastive_lse` returns for a square of this rank's pairs, but
over the negatives of all ranks. The rows' sums are complete. Each rank has a part of the columns'
sums, and the columns' owners merge these parts: this communicates 2 N numbers.

With ids there is one rectangle for each owner of columns, whose columns are in the order of their
ids, and the statistics of rows are merged.

All operators and linear maps used here have gradients. The gradients of the columns' features,
partial on every rank, return to the columns' owners by the adjoint of `gather_rows`.
"""

import torch
from torch import Tensor

from fastclip.distributed.agreement import Ranks
from fastclip.distributed.exchange import gather_rows, send_to_owners
from fastclip.distributed.no_pairs import statistics_of
from fastclip.ops.dispatch import plan
from fastclip.ops.merge import merge
from fastclip.ops.pair_ids import SideIds, interval_of
from fastclip.ops.sigmoid_positives import half_shares, positive_terms
from fastclip.ops.total_sigmoid_loss import total_sigmoid_loss
from fastclip.rectangle import MAIN_DIAGONAL, Diagonal, Rectangle


def softmax_statistics(
    own: Rectangle,
    ids: SideIds | None,
    ranks: Ranks,
    backend: str,
    workspace: int | None,
    needs_maximum: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return positive (B,), shift (2, B) and total (2, B): for own rows, then for own columns."""
    whole, parts = with_all_columns(own, ids, ranks)
    call = plan("contrastive_lse", backend, whole, workspace)
    positives, of_rows, of_cols = [], [], []
    for part in parts:
        positive, shift, total = statistics_of(part, call, needs_maximum)
        row_shift, col_shift = shift.split(part.lengths)
        row_total, col_total = total.split(part.lengths)
        positives.append(positive)
        of_rows.append((row_shift, row_total))
        of_cols.append((col_shift, col_total))
    row_shift, row_total = of_rows[0] if len(parts) == 1 else merge(of_rows)
    col_shift, col_total = map(torch.cat, zip(*of_cols, strict=True))
    # A row's pair is in one part, and 0 in all others.
    positive = sum(positives)
    partials = send_to_owners(torch.stack((col_shift, col_total), 1), ranks)  # (W, B, 2)
    col_shift, col_total = merge([part.unbind(-1) for part in partials])
    return positive, torch.stack((row_shift, col_shift)), torch.stack((row_total, col_total))


def sigmoid_loss(
    own: Rectangle,
    ids: SideIds | None,
    are_positives: bool,
    logit_bias: Tensor,
    ranks: Ranks,
    backend: str,
    workspace: int | None,
) -> Tensor:
    """Return the sum of the losses of own rows and all columns, ()."""
    whole, parts = with_all_columns(own, ids, ranks)
    call = plan("siglip_total", backend, whole, workspace, logit_bias)
    total = sum(total_sigmoid_loss(part, logit_bias, call) for part in parts)
    if are_positives:
        all_ids = SideIds(*(gather_rows(x, ranks) for x in ids))
        row_shares = half_shares(ids.rows, ids.cols, all_ids.cols)
        col_shares = gather_rows(half_shares(ids.cols, ids.rows, all_ids.rows), ranks)
        for part, of_owner in zip(parts, col_shares.split(ranks.sizes), strict=True):
            total = total + positive_terms(part, logit_bias, row_shares, of_owner).sum()
    return total


def with_all_columns(
    own: Rectangle, ids: SideIds | None, ranks: Ranks
) -> tuple[Rectangle, list[Rectangle]]:
    """Return the rectangle of own rows and all columns, and the parts that are computed."""
    cols = gather_rows(own.cols, ranks)
    whole = own._replace(cols=cols, positives=Diagonal(ranks.start))
    if ids is None:
        return whole, [whole]
    ids_of_owners = gather_rows(ids.cols, ranks).split(ranks.sizes)
    return whole, [
        own._replace(
            cols=of_owner,
            positives=MAIN_DIAGONAL if owner == ranks.rank else None,
            excluded=interval_of(ids.rows, col_ids),
        )
        for owner, (of_owner, col_ids) in enumerate(
            zip(cols.split(ranks.sizes), ids_of_owners, strict=True)
        )
    ]
