"""Reading sizes, the number of blocks and the side of a grid from the shapes of a state dict."""

import math
from collections.abc import Mapping

from torch import Tensor

from fastclip.models.checkpoints.errors import CheckpointError


def sizes_of(tensors: Mapping[str, Tensor], name: str, num: int) -> tuple[int, ...]:
    """Return the shape of a tensor of `num` dimensions.

    Raises:
        KeyError: there is no tensor of that name.
        CheckpointError: the tensor has another number of dimensions, or is empty.
    """
    shape = tuple(tensors[name].shape)
    if len(shape) != num or 0 in shape:
        raise CheckpointError(
            f"{name} has shape {shape}, expected {num} dimensions of size 1 or more: the "
            "architecture cannot be inferred"
        )
    return shape


def depth_of(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Return how many different numbers follow `prefix` in the names of the tensors.

    Raises:
        KeyError: no name begins with `prefix`.
    """
    found = {name[len(prefix) :].split(".")[0] for name in tensors if name.startswith(prefix)}
    if not found:
        raise KeyError(f"{prefix}0")
    return len(found)


def side_of(num_positions: int, name: str) -> int:
    """Return the side of a square grid of `num_positions` positions.

    Args:
        num_positions: the positions on the grid.
        name: of the tensor that has them, for the message.

    Raises:
        CheckpointError: the number of positions is not a square.
    """
    side = math.isqrt(num_positions)
    if side * side != num_positions:
        raise CheckpointError(
            f"{name} has {num_positions} positions, which are not a square grid: give the name or "
            "the configuration of the model"
        )
    return side
