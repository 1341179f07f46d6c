"""The sigmoid loss of the pairs of all ranks.

    loss = sum over ranks of (the losses of own rows and all columns) / N

with the derivative that `fastclip/distributed/__init__.py` defines. The loss is symmetric, so that
either side may be the rows.
"""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed import gather, ring_sigmoid_loss
from fastclip.distributed.agreement import agree
from fastclip.distributed.exchange import sum_over_ranks
from fastclip.distributed.sides import texts_are_rows
from fastclip.ops.differentiation import needs_grad
from fastclip.ops.dispatch import resolve_backend
from fastclip.ops.pair_ids import PairIds, in_order
from fastclip.rectangle import Rectangle

_SCHEDULES = {"gather": gather.sigmoid_loss, "ring": ring_sigmoid_loss.sigmoid_loss}


# Collectives cannot be in a graph of torch.compile: the graph breaks here.
@torch.compiler.disable
def siglip_loss_over_ranks(
    own: Rectangle,
    logit_bias: Tensor,  # ()
    given: tuple[float | Tensor, float | Tensor],
    group: ProcessGroup,
    schedule: str,
    backend: str,
    workspace: int | None,
    ids: PairIds | None,
) -> Tensor:
    """Return the loss, ().

    Args:
        own: the square of this rank's pairs, images as rows.
        given: logit_scale and logit_bias as the caller gave them, numbers or tensors.
    """
    # This may raise, which must happen before the other ranks wait for this rank.
    are_positives = ids is not None and ids.are_positives
    if are_positives and schedule != "gather":
        raise ValueError(
            f"with a process_group, positives='ids' must have schedule='gather', got {schedule!r}: "
            "it needs the features of all ranks at once"
        )
    one_pass = schedule == "gather" and needs_grad(*own[:3], logit_bias)
    primitive = "siglip_total" if one_pass else "siglip_sum"
    chosen = resolve_backend(backend, own.rows, primitive=primitive, leaves_out=ids is not None)
    ranks = agree(
        group, "siglip_loss", schedule, own, *given,
        chosen=chosen if backend == "auto" else None, ids=ids,
    )  # fmt: skip
    backend = ranks.backend or chosen
    swapped = texts_are_rows(own)
    if swapped:
        own = own._replace(rows=own.cols, cols=own.rows)
    sides = None
    if ids is not None:
        images, texts, _ = ids
        here = in_order(own, *((texts, images) if swapped else (images, texts)))
        own, sides = here.rectangle, here.ids
    total = _SCHEDULES[schedule](own, sides, are_positives, logit_bias, ranks, backend, workspace)
    return (sum_over_ranks(total.double(), ranks) / ranks.num_pairs).to(total.dtype)
