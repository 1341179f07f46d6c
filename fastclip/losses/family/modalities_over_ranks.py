"""The losses of pairs of modalities over the samples of several processes.

A process may have no sample of a pair, or lack a modality altogether. Even so it must take part in
the exchanges of all other processes, forward and backward, in their order. So all processes first
tell each other what they have; then every process calls the loss of every pair that has samples
anywhere, possibly with no rows. The empty stand-in for a missing modality depends on a modality
that the process has: the backward through the latter takes part in the exchanges.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed.agreement import Ranks, agree
from fastclip.distributed.clip_loss import clip_loss_over_ranks
from fastclip.distributed.exchange import of_all_ranks
from fastclip.losses.family.common_rows import Pair
from fastclip.losses.family.modality_inputs import ModalityInputs, modality_inputs
from fastclip.ops import validation
from fastclip.ops.clip_options import NO_OPTIONS
from fastclip.ops.differentiation import needs_grad
from fastclip.ops.dispatch import resolve_backend
from fastclip.ops.pair_ids import PairIds
from fastclip.rectangle import MAIN_DIAGONAL, Rectangle

_ABSENT = -1


# Collectives have no place in a graph of torch.compile: it breaks here.
@torch.compiler.disable
def inputs_of_all(
    features: Mapping[str, Tensor], *given: Any, group: ProcessGroup, schedule: str
) -> ModalityInputs:
    """Return `modality_inputs`; if it raises, tell the other processes of `group`.

    Samples differ between processes, and so do errors in them: without a word, the other processes
    would wait for this one.
    """
    try:
        return modality_inputs(features, *given)
    except (TypeError, ValueError):
        tensors = features.values() if isinstance(features, Mapping) else ()
        device = next((x.device for x in tensors if isinstance(x, Tensor)), "cpu")
        nothing = Rectangle(*(torch.empty(0, 1, device=device),) * 2, torch.ones(()), None)
        # Its error adds nothing here, and the group may have no backend for the CPU.
        with contextlib.suppress(ValueError, RuntimeError):
            agree(group, "modalities_loss with wrong modalities", schedule, nothing, 0.0, 0.0)
        raise


# Collectives have no place in a graph of torch.compile: it breaks here.
@torch.compiler.disable
def pair_losses(
    inputs: ModalityInputs,
    normalize: bool,
    backend: str,
    workspace: int | None,
    group: ProcessGroup,
    schedule: str,
) -> dict[Pair, tuple[Tensor, int]]:
    """Return the loss, (), of each pair that has samples, and the number of these on all processes.

    Raises:
        ValueError: the processes disagree; all of them raise.
    """
    pairs, features, samples, scales, with_ids = inputs
    first = next(iter(features.values()))
    # Raise an error about the workspace or the backend before other ranks wait for this one.
    validation.check_workspace(workspace)
    chosen = resolve_backend(backend, first, leaves_out=with_ids)
    one = first.detach()
    no_ids = torch.empty(0, dtype=torch.int64, device=first.device)
    ranks = agree(
        group, "modalities_loss", schedule,
        Rectangle(one, one, one.new_ones(()), None, normalize=normalize), 0.0, 0.0,
        chosen=chosen if backend == "auto" else None,
        ids=PairIds(no_ids, no_ids) if with_ids else None,
    )  # fmt: skip
    numbers, wanted = _told(inputs, ranks)

    def stand_in(name: str) -> Tensor:
        """Return features of a modality without rows."""
        if name in features:
            return features[name][:0]
        if not wanted[name]:
            return one[:0]
        for x in features.values():
            if needs_grad(x):
                return x[:0]
        return one[:0].clone().requires_grad_()

    losses = {}
    for pair, number in zip(pairs, numbers, strict=True):
        if number == 0:
            continue
        x, y, x_ids, y_ids = samples.get(pair) or (*map(stand_in, pair), no_ids, no_ids)
        scale = validation.scalar_tensor("logit_scale", scales[pair], first)
        square = Rectangle(x, y, scale, MAIN_DIAGONAL, normalize=normalize)
        options = NO_OPTIONS._replace(ids=PairIds(x_ids, y_ids)) if with_ids else NO_OPTIONS
        loss, _ = clip_loss_over_ranks(
            square, scales[pair], group, schedule, ranks.backend or chosen, workspace, False,
            options,
        )  # fmt: skip
        losses[pair] = loss, number
    return losses


def _told(inputs: ModalityInputs, ranks: Ranks) -> tuple[list[int], dict[str, bool]]:
    """Return the samples of each pair, and whether each modality's features need a gradient."""
    pairs, features, samples, *_ = inputs
    device = next(iter(features.values())).device
    code = int.from_bytes(hashlib.sha256(repr(pairs).encode()).digest()[:8], "little", signed=True)
    if len(set(of_all_ranks(torch.tensor(code, device=device), ranks).tolist())) > 1:
        raise ValueError(
            f"pairs must be the same on ranks 0 to {ranks.world_size - 1}, in their order too, got "
            f"{pairs} here; every rank must make the same calls of the loss"
        )
    names = tuple(dict.fromkeys(name for pair in pairs for name in pair))
    numbers = [len(samples[pair].x) if pair in samples else 0 for pair in pairs]
    wants = [needs_grad(features[name]) if name in features else _ABSENT for name in names]
    everyone = of_all_ranks(torch.tensor([*numbers, *wants], device=device), ranks)
    wanted = {}
    for name, column in zip(names, everyone[:, len(pairs) :].T.tolist(), strict=True):
        told = set(column) - {_ABSENT}
        if len(told) > 1:
            ranks_that_do, ranks_that_do_not = (
                [rank for rank, x in enumerate(column) if x == answer] for answer in (1, 0)
            )
            raise ValueError(
                f"requires_grad of the features of {name!r} must be the same on all ranks that "
                f"have them: it is on ranks {ranks_that_do}, and not on {ranks_that_do_not}"
            )
        wanted[name] = 1 in told
    return everyone[:, : len(pairs)].sum(0).tolist(), wanted
