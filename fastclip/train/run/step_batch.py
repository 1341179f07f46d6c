"""What a step is taken with: its micro-batches, and what its loss wants beside their features."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastclip.data.loading.loader import Batch, NumberedBatch


class StepBatch(NamedTuple):
    """Attributes:
    pairs: micro-batches of images, on the host, and tokens, on the device.
    of_loss: what the loss is called with by name, of all pairs in their order.
    """

    pairs: list[tuple[Tensor, Tensor]]
    of_loss: dict[str, Any]


def step_batch(loaded: Iterable[Batch | NumberedBatch], device: torch.device) -> StepBatch:
    """Make it of the micro-batches of a loader; those with numbers give the loss its `indices`."""
    batches = list(loaded)
    pairs = [(b.images, b.tokens.to(device, non_blocking=True)) for b in batches]
    numbers = [b.numbers for b in batches if isinstance(b, NumberedBatch)]
    return StepBatch(pairs, {"indices": torch.cat(numbers)} if numbers else {})
