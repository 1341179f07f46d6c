"""The CLIP loss of the pairs of all ranks.

By either schedule, each rank completes the statistics of its own pairs, of rows and columns; then

    nll  = -log p = softplus(shift + log total - positive)      (2, B_r)
    loss = sum over ranks of sum(nll) / (2 N)

with the derivative that `fastclip/distributed/__init__.py` defines. The statistics are symmetric,
so that either side may be the rows.

With options (`ops/clip_terms.py`), the extra texts of all ranks count. Label smoothing uses the
mean of all ranks' features: each rank sends the sums of its own features, 2 D numbers. The ids of
all ranks count: they travel with the columns, which every rank has put in the order of their ids.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed import gather, ring_contrastive_lse
from fastclip.distributed.agreement import Ranks, agree
from fastclip.distributed.exchange import gather_rows, of_all_ranks, sum_over_ranks
from fastclip.distributed.sides import texts_are_rows
from fastclip.ops.clip_means import mean_logits
from fastclip.ops.clip_options import ClipOptions
from fastclip.ops.clip_stats import ClipStats
from fastclip.ops.clip_terms import loss_of_pairs, shares, with_extra_texts
from fastclip.ops.cross_entropy import negative_log_probability
from fastclip.ops.dispatch import resolve_backend
from fastclip.ops.pair_ids import PairIds, in_order, same_pairs
from fastclip.rectangle import BOTH, Rectangle

_SCHEDULES = {
    "gather": gather.softmax_statistics,
    "ring": ring_contrastive_lse.softmax_statistics,
}


# Collectives cannot be in a graph of torch.compile: the graph breaks here.
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
    """Return the loss (), and the statistics of the whole batch or None.

    Args:
        own: the square of this rank's pairs, images as rows.
        logit_scale: as the caller gave it, number or tensor.
        return_stats: whether to return the statistics.
    """
    # This may raise, which must happen before the other ranks wait for this rank.
    _check_schedule(schedule, options)
    looks_at_negatives = options.leave_out or (options.add_positives and return_stats)
    chosen = resolve_backend(backend, own.rows, leaves_out=looks_at_negatives)
    ranks = agree(
        group, "clip_loss", schedule, own, logit_scale, 0.0, return_stats,
        chosen if backend == "auto" else None, options, options.ids,
    )  # fmt: skip
    backend = ranks.backend or chosen
    swapped = texts_are_rows(own)
    of_batch, of_extra = shares(workspace, ranks.num_pairs, sum(ranks.extra_sizes))

    def statistics(leave_out: bool, workspace: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return positive (B,), shift and total (2, B); with options, images come first."""
        rectangle = own._replace(rows=own.cols, cols=own.rows) if swapped else own
        settings = ranks, backend, workspace, return_stats
        if leave_out:
            images, texts, _ = options.ids
            ids = (texts, images) if swapped else (images, texts)
            here = in_order(rectangle, *ids)
            found = _SCHEDULES[schedule](here.rectangle, here.ids, *settings)
            found = tuple(map(here.restored, found))
        else:
            found = _SCHEDULES[schedule](rectangle, None, *settings)
        if not swapped or options.are_default:
            return found
        positive, shift, total = found
        return positive, shift.flip(0), total.flip(0)

    positive, shift, total = statistics(options.leave_out, of_batch)
    maximum = shift
    if options.are_default:
        nll = negative_log_probability(positive, shift, total)
        loss = sum_over_ranks(nll.sum(dtype=torch.float64), ranks) / (2 * ranks.num_pairs)
        loss = loss.to(nll.dtype)
        maximum = shift.flip(0) if swapped and return_stats else shift
    else:
        if return_stats and options.add_positives:
            # The largest negative must not be one of the positives.
            with torch.no_grad():
                _, maximum, _ = statistics(True, 0)
        if options.extra_text_features is not None:
            of_all = replace(ranks, sizes=ranks.extra_sizes)
            extra = own._replace(cols=gather_rows(options.extra_text_features, of_all))
            shift, total, maximum = with_extra_texts(
                shift, total, maximum, extra, backend, of_extra, return_stats
            )
        loss = _loss_with(options, own, ranks, positive, shift, total)
    if not return_stats:
        return loss, None
    return loss, _statistics(positive, maximum, options.ids, ranks)


def _check_schedule(schedule: str, options: ClipOptions) -> None:
    """Raise ValueError if an option needs features that do not travel around a ring."""
    if schedule == "gather":
        return
    named = {
        "extra_text_features": options.extra_text_features is not None,
        "positives='ids'": options.add_positives,
        "label_smoothing with ids": options.leave_out and options.label_smoothing > 0,
    }
    for name, is_given in named.items():
        if is_given:
            raise ValueError(
                f"with a process_group, {name} must have schedule='gather', got {schedule!r}: it "
                "needs the features of all ranks at once"
            )


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

    means = mean_logits(
        own, options, positive, ranks.num_pairs, sum(ranks.extra_sizes), of_all_batches,
        lambda rows: gather_rows(rows, ranks),
    )  # fmt: skip
    # Schedules return both directions, also where one has the weight 0.
    losses = loss_of_pairs(options, BOTH, own.logit_scale, positive, shift, total, means)
    loss = sum_over_ranks(losses.sum(dtype=torch.float64), ranks) / ranks.num_pairs
    return loss.to(losses.dtype)


def _statistics(positive: Tensor, maximum: Tensor, ids: PairIds | None, ranks: Ranks) -> ClipStats:
    right = (positive > maximum).sum(1, dtype=torch.float64)  # (2,)
    num_same = torch.zeros_like(right[0])
    if ids is not None:
        here = ids.on(positive.device)
        num_same = same_pairs(here, gather_rows(here.texts, ranks)).double()
    sums = torch.stack((*right, positive.sum(dtype=torch.float64), num_same))
    everyone = of_all_ranks(torch.cat((sums, maximum.max()[None])), ranks)  # (W, 5)
    *of_pairs, same = everyone[:, :4].sum(0)
    means = torch.stack(of_pairs) / ranks.num_pairs
    hardest = everyone[:, 4].max().to(positive.dtype)
    return ClipStats(*means.to(positive.dtype), hardest, same.to(torch.int64))
