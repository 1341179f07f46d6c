"""What all ranks must agree about before they communicate.

A rank that waits for other shapes than it is sent, or for a gradient that nobody computes, hangs or
reads garbage. So each tells all others what it is about to do, in a dozen integers, and all raise
the same error. On a GPU this exchange is the loss's one wait for the device.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed.groups import SCHEDULES
from fastclip.ops.kept_rows import needs_grad
from fastclip.ops.validation import FEATURE_DTYPES

_YES_NO = (False, True)
# What is told, and the values it may have; None: any integer.
_FIELDS = {
    "the loss": ("clip_loss", "siglip_loss"),
    "schedule": SCHEDULES,
    "normalize": _YES_NO,
    "return_stats": _YES_NO,
    "the dtype of features": FEATURE_DTYPES,
    "D": None,
    "requires_grad of image_features": _YES_NO,
    "requires_grad of text_features": _YES_NO,
    "requires_grad of logit_scale or logit_bias": _YES_NO,
}


@dataclass(frozen=True)
class Ranks:
    """The processes of one loss, and how many pairs each of them has."""

    group: ProcessGroup
    rank: int
    sizes: tuple[int, ...]  # B_r

    @property
    def world_size(self) -> int:
        return len(self.sizes)

    @property
    def own_size(self) -> int:
        return self.sizes[self.rank]

    @property
    def start(self) -> int:
        """Where this rank's pairs begin among all N."""
        return sum(self.sizes[: self.rank])

    @property
    def num_pairs(self) -> int:
        return sum(self.sizes)


def agree(
    group: ProcessGroup,
    loss: str,
    schedule: str,
    image_features: Tensor,  # (B, D)
    text_features: Tensor,  # (B, D)
    scalars: tuple[Tensor, ...],
    normalize: bool,
    return_stats: bool = False,
) -> Ranks:
    """Tell all ranks what this one is about to compute, and return who takes part.

    Raises:
        ValueError: on every rank, if ranks differ in anything but their number of pairs.
    """
    size, D = image_features.shape
    values = (
        loss, schedule, bool(normalize), bool(return_stats), image_features.dtype, D,
        needs_grad(image_features), needs_grad(text_features), needs_grad(*scalars),
    )  # fmt: skip
    codes = [
        value if choices is None else choices.index(value)
        for value, choices in zip(values, _FIELDS.values(), strict=True)
    ]
    own = torch.tensor([size, *codes], device=image_features.device)
    everyone = [torch.empty_like(own) for _ in range(group.size())]
    dist.all_gather(everyone, own, group)
    sizes, *columns = zip(*(codes.tolist() for codes in everyone), strict=True)
    for (name, choices), column in zip(_FIELDS.items(), columns, strict=True):
        if len(set(column)) > 1:
            told = ", ".join(str(code if choices is None else choices[code]) for code in column)
            last = len(column) - 1
            raise ValueError(f"{name} must be the same on ranks 0 to {last}, got {told}")
    return Ranks(group, group.rank(), sizes)
