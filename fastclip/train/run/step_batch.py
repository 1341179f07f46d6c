"""The inputs of a step: its micro-batches, and what its loss needs besides their features."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastclip.data.loading.loader import Batch, BatchWithFacts
from fastclip.data.loading.sample_facts import CAPTION_IDS, IMAGE_IDS, NUMBERS
from fastclip.distributed.processes import Processes
from fastclip.train.run.duplicates import find_duplicates


class StepBatch(NamedTuple):
    """Attributes:
    pairs: micro-batches of images, on the host, and tokens, on the device.
    facts: by name, of all pairs of this rank in their order, see `BatchWithFacts`.
    """

    pairs: list[tuple[Tensor, Tensor]]
    facts: dict[str, Tensor]


class OfBatch(NamedTuple):
    """Attributes:
    of_loss: keyword arguments of the loss, for all pairs of this rank in their order.
    counts: numbers for the log, by name, of the batch of all ranks.
    """

    of_loss: dict[str, Any]
    counts: dict[str, int]


def step_batch(loaded: Iterable[Batch | BatchWithFacts], device: torch.device) -> StepBatch:
    """Collect the micro-batches of a loader for one step."""
    batches = list(loaded)
    pairs = [(b.images, b.tokens.to(device, non_blocking=True)) for b in batches]
    told = [b.facts for b in batches if isinstance(b, BatchWithFacts)]
    names = told[0] if told else ()
    return StepBatch(pairs, {name: torch.cat([facts[name] for facts in told]) for name in names})


def of_batch(batch: StepBatch, processes: Processes, kept: Sequence[Tensor] = ()) -> OfBatch:
    """Turn the facts of a batch into arguments of the loss; all ranks call this together.

    The arguments are `indices`, the numbers of the samples, and `ids`, which duplicates share.

    Args:
        kept: the ids that the loss keeps from earlier batches, see `kept_ids`.
    """
    ids = {name: fact for name, fact in batch.facts.items() if name in (CAPTION_IDS, IMAGE_IDS)}
    of_loss = {"indices": batch.facts[NUMBERS]} if NUMBERS in batch.facts else {}
    if not ids:
        return OfBatch(of_loss, {})
    found = find_duplicates(ids, processes, kept)
    return OfBatch(of_loss | {"ids": found.ids}, found.counts)
