"""The CLIP loss of the pairs of all ranks.

Each rank completes the statistics of its own pairs, rows and columns, by either schedule; then

    nll  = -log p = softplus(shift + log total - positive)      (2, B_r)
    loss = sum over ranks of sum(nll) / (2 N)

with the derivative that `fastclip/distributed/__init__.py` promises. Statistics are symmetric, so
that either side may be the rows.

With options (`ops/clip_terms.py`), extra texts are those of all ranks, and so are the features
whose mean smooths labels: each rank sends the sums of its own, 2 D numbers.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed import gather, ring_contrastive_lse
from fastclip.distributed.agreement import Ranks, agree
from fastclip.distributed.exchange import gather_rows, of_all_ranks, sum_over_ranks
from fastclip.distributed.sides import texts_are_rows
from fastclip.ops.clip_options import ClipOptions
from fastclip.ops.clip_stats import ClipStats
from fastclip.ops.clip_terms import loss_of_pairs, mean_logits, shares, with_extra_texts
from fastclip.ops.cross_entropy import negative_log_probability
from fastclip.ops.dispatch import resolve_backend
from fastclip.rectangle import BOTH, Rectangle

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
    options: ClipOptions,
) -> tuple[Tensor, ClipStats | None]:
    """Returns the loss (), and of the whole batch its statistics if wanted.

    `own` is the square of this rank's pairs, images as rows; `logit_scale` is as the caller gave
    it, number or tensor.
    """
    # An objection is raised before the other ranks wait for this one.
    if options.extra_text_features is not None and schedule != "gather":
        raise ValueError(
            f"extra_text_features over ranks need schedule='gather', got {schedule!r}: they do not "
            "travel around a ring"
        )
    chosen = resolve_backend(backend, own.rows)
    ranks = agree(
        group, "clip_loss", schedule, own, logit_scale, 0.0, return_stats,
        chosen if backend == "auto" else None, options,
    )  # fmt: skip
    backend = ranks.backend or chosen
    swapped = texts_are_rows(own)
    rectangle = own._replace(rows=own.cols, cols=own.rows) if swapped else own
    of_batch, of_extra = shares(workspace, ranks.num_pairs, sum(ranks.extra_sizes))
    positive, shift, total = _SCHEDULES[schedule](rectangle, ranks, backend, of_batch, return_stats)
    if options.are_default:
        nll = negative_log_probability(positive, shift, total)
        loss = sum_over_ranks(nll.sum(dtype=torch.float64), ranks) / (2 * ranks.num_pairs)
        loss = loss.to(nll.dtype)
        shift = shift.flip(0) if swapped and return_stats else shift
    else:
        if swapped:
            shift, total = shift.flip(0), total.flip(0)
        if options.extra_text_features is not None:
            of_all = replace(ranks, sizes=ranks.extra_sizes)
            extra = own._replace(cols=gather_rows(options.extra_text_features, of_all))
            shift, total = with_extra_texts(shift, total, extra, backend, of_extra, return_stats)
        loss = _loss_with(options, own, ranks, positive, shift, total)
    if not return_stats:
        return loss, None
    return loss, _statistics(positive, shift, ranks)


def _loss_with(
    options: ClipOptions,
    own: Rectangle,
    ranks: Ranks,
    positive: Tensor,  # (B,)
    shift: Tensor,  # (2, B), of images first
    total: Tensor,  # (2, B)
) -> Tensor:
    def of_all_batches(sums: Tensor) -> Tensor:
        one_each = replace(ranks, sizes=(1,) * ranks.world_size)
        return gather_rows(sums[None], one_each).sum(0)

    means = None
    if options.label_smoothing > 0:
        num_extra = sum(ranks.extra_sizes)
        means = mean_logits(own, options, ranks.num_pairs, num_extra, of_all_batches)
    # Both directions are here, also where one has the weight 0: schedules return both.
    losses = loss_of_pairs(options, BOTH, own.logit_scale, positive, shift, total, means)
    loss = sum_over_ranks(losses.sum(dtype=torch.float64), ranks) / ranks.num_pairs
    return loss.to(losses.dtype)


def _statistics(positive: Tensor, maximum: Tensor, ranks: Ranks) -> ClipStats:
    right = (positive > maximum).sum(1, dtype=torch.float64)  # (2,)
    sums = torch.stack((*right, positive.sum(dtype=torch.float64)))
    everyone = of_all_ranks(torch.cat((sums, maximum.max()[None])), ranks)  # (W, 4)
    means = everyone[:, :3].sum(0) / ranks.num_pairs
    return ClipStats(*means.to(positive.dtype), everyone[:, 3].max().to(positive.dtype))
