"""The CLIP loss of the pairs of all ranks.

Each rank completes the statistics of its own pairs, rows and columns, by either schedule; then

    nll  = -log p = softplus(shift + log total - positive)      (2, B_r)
    loss = sum over ranks of sum(nll) / (2 N)

with the derivative that `fastclip/distributed/__init__.py` promises. The loss is symmetric, so that
either side may be the rows.
"""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed import gather, ring_contrastive_lse
from fastclip.distributed.agreement import Ranks, agree
from fastclip.distributed.exchange import of_all_ranks, sum_over_ranks
from fastclip.distributed.sides import texts_are_rows
from fastclip.ops.clip_stats import ClipStats
from fastclip.ops.cross_entropy import negative_log_probability
from fastclip.ops.dispatch import resolve_backend
from fastclip.rectangle import Rectangle

_SCHEDULES = {
    "gather": gather.softmax_statistics,
    "ring": ring_contrastive_lse.softmax_statistics,
}


# Collectives have no place in a graph of torch.compile: it breaks here.
@torch.compiler.disable
def clip_loss_over_ranks(
    own: Rectangle,
    logit_scale: float | Tensor,
    group: ProcessGroup,
    schedule: str,
    backend: str,
    workspace: int | None,
    return_stats: bool,
) -> tuple[Tensor, ClipStats | None]:
    """Returns the loss (), and of the whole batch its statistics if wanted.

    `own` is the square of this rank's pairs, images as rows; `logit_scale` is as the caller gave
    it, number or tensor.
    """
    # An objection is raised before the other ranks wait for this one.
    chosen = resolve_backend(backend, own.rows)
    ranks = agree(
        group, "clip_loss", schedule, own, logit_scale, 0.0, return_stats,
        chosen if backend == "auto" else None,
    )  # fmt: skip
    backend = ranks.backend or chosen
    swapped = texts_are_rows(own)
    if swapped:
        own = own._replace(rows=own.cols, cols=own.rows)
    positive, shift, total = _SCHEDULES[schedule](own, ranks, backend, workspace, return_stats)
    nll = negative_log_probability(positive, shift, total)
    loss = sum_over_ranks(nll.sum(dtype=torch.float64), ranks) / (2 * ranks.num_pairs)
    loss = loss.to(nll.dtype)
    if not return_stats:
        return loss, None
    return loss, _statistics(positive, shift.flip(0) if swapped else shift, ranks)


def _statistics(positive: Tensor, maximum: Tensor, ranks: Ranks) -> ClipStats:
    right = (positive > maximum).sum(1, dtype=torch.float64)  # (2,)
    sums = torch.stack((*right, positive.sum(dtype=torch.float64)))
    everyone = of_all_ranks(torch.cat((sums, maximum.max()[None])), ranks)  # (W, 4)
    means = everyone[:, :3].sum(0) / ranks.num_pairs
    return ClipStats(*means.to(positive.dtype), everyone[:, 3].max().to(positive.dtype))
