"""What a step is taken with: its micro-batches, and what its loss wants beside their features."""

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
    facts: of all pairs of this rank in their order, by name, see `BatchWithFacts`.
    """

    pairs: list[tuple[Tensor, Tensor]]
    facts: dict[str, Tensor]


class OfBatch(NamedTuple):
    """Attributes:
    of_loss: what the loss is called with by name, of all pairs of this rank in their order.
    counts: for the log, by name, of the batch of all ranks.
    """

    of_loss: dict[str, Any]
    counts: dict[str, int]


def step_batch(loaded: Iterable[Batch | BatchWithFacts], device: torch.device) -> StepBatch:
    """Make it of the micro-batches of a loader."""
    batches = list(loaded)
    pairs = [(b.images, b.tokens.to(device, non_blocking=True)) for b in batches]
    told = [b.facts for b in batches if isinstance(b, BatchWithFacts)]
    names = told[0] if told else ()
    return StepBatch(pairs, {name: torch.cat([facts[name] for facts in told]) for name in names})


def of_batch(batch: StepBatch, processes: Processes, kept: Sequence[Tensor] = ()) -> OfBatch:
    """What the facts of a batch are for: samples have `indices`, what is twice in it has `ids`.

    All ranks call it together.

    Args:
        kept: the ids that the loss has of earlier batches, see `kept_ids`.
    """
    ids = {name: fact for name, fact in batch.facts.items() if name in (CAPTION_IDS, IMAGE_IDS)}
    of_loss = {"indices": batch.facts[NUMBERS]} if NUMBERS in batch.facts else {}
    if not ids:
        return OfBatch(of_loss, {})
    found = find_duplicates(ids, processes, kept)
    return OfBatch(of_loss | {"ids": found.ids}, found.counts)
