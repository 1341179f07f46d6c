"""Makes the `Scores` of a loss that several processes call, for the schedule they name."""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed.agreement import agree
from fastclip.losses.family.gathered_scores import GatheredScores
from fastclip.losses.family.ring_scores import RingScores
from fastclip.losses.family.scores_of_ranks import ScoresOfRanks
from fastclip.ops.dispatch import resolve_backend
from fastclip.ops.pair_ids import PairIds
from fastclip.ops.side_ids import SideIds
from fastclip.rectangle import Rectangle

_SCHEDULES = {"gather": GatheredScores, "ring": RingScores}


# Collectives have no place in a graph of torch.compile: it breaks here.
@torch.compiler.disable
def scores_over_ranks(
    loss: str,
    features: tuple[Tensor, Tensor],
    given_scale: float | Tensor,
    logit_scale: Tensor,
    normalize: bool,
    backend: str,
    workspace: int | None,
    group: ProcessGroup,
    schedule: str,
    ids: SideIds | None,
) -> ScoresOfRanks:
    """Return the scores of a loss that all processes of `group` call, which agree on it first.

    Raises:
        ValueError: the processes differ in anything but their number of rows; all of them raise.
    """
    # Raise an error about the backend before other ranks wait for this one.
    chosen = resolve_backend(backend, features[0], leaves_out=ids is not None)
    own = Rectangle(*features, logit_scale, None, normalize=normalize)
    ranks = agree(
        group, loss, schedule, own, given_scale, 0.0,
        chosen=chosen if backend == "auto" else None,
        ids=None if ids is None else PairIds(*ids),
    )  # fmt: skip
    scores = _SCHEDULES[schedule]
    return scores(logit_scale, normalize, ranks.backend or chosen, workspace, ranks)
