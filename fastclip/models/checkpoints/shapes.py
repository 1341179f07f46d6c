"""What the shapes of a state dict's tensors say: sizes, how many blocks, the side of a grid."""

import math
from collections.abc import Mapping

from torch import Tensor

from fastclip.models.checkpoints.errors import CheckpointError


def sizes_of(tensors: Mapping[str, Tensor], name: str, num: int) -> tuple[int, ...]:
    """The shape of a tensor of `num` dimensions.

    Raises:
        KeyError: there is no tensor of that name.
        CheckpointError: it has another number of dimensions, or is empty.
    """
    shape = tuple(tensors[name].shape)
    if len(shape) != num or 0 in shape:
        raise CheckpointError(
            f"{name} has shape {shape}, a model's has {num} sizes of 1 at least: the architecture "
            "cannot be inferred"
        )
    return shape


def depth_of(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many different numbers stand behind `prefix` in the names.

    Raises:
        KeyError: none.
    """
    found = {name[len(prefix) :].split(".")[0] for name in tensors if name.startswith(prefix)}
    if not found:
        raise KeyError(f"{prefix}0")
    return len(found)


def side_of(num_positions: int, name: str) -> int:
    """The side of a square grid of so many positions.

    Raises:
        CheckpointError: they are not a square; it says that they are of the tensor `name`.
    """
    side = math.isqrt(num_positions)
    if side * side != num_positions:
        raise CheckpointError(
            f"{name} has {num_positions} positions, not a square: give a configuration"
        )
    return side
