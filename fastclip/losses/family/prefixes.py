"""Checks the lengths and the weights of prefixes of features, by name."""

import operator
from collections.abc import Iterable, Mapping, Set

from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.losses.family.inputs import positive_number
from fastclip.losses.family.prepare import scores_of


def checked_dims(dims: Iterable[int]) -> tuple[int, ...]:
    """Return the lengths of prefixes; raise if there are none, or some below 1 or repeated."""
    if isinstance(dims, str | Set) or not isinstance(dims, Iterable):
        raise TypeError(f"dims must be a list of integers, got {type(dims).__name__}")
    dims = tuple(_integer(dim) for dim in dims)
    if not dims:
        raise ValueError("dims must have at least one length of a prefix, got none")
    if min(dims) < 1:
        raise ValueError(f"dims must be at least 1, got {min(dims)}")
    if len(set(dims)) < len(dims):
        raise ValueError(f"dims must all be different, got {dims}")
    return dims


def _integer(dim: int) -> int:
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"dims must be integers, got {type(dim).__name__}")
    return operator.index(dim)


def checked_weights(weights: Iterable[float] | None, dims: tuple[int, ...]) -> tuple[float, ...]:
    """Return a weight > 0 for each of `dims`, 1 if `weights` is None; raise if they are wrong."""
    if weights is None:
        return (1.0,) * len(dims)
    if isinstance(weights, str | Mapping | Set) or not isinstance(weights, Iterable):
        raise TypeError(
            f"weights must be a list of numbers, one for each of dims, got {type(weights).__name__}"
        )
    weights = tuple(weights)
    if len(weights) != len(dims):
        raise ValueError(f"weights must be as many as dims, {len(dims)}, got {len(weights)}")
    return tuple(positive_number(f"weights[{i}]", x) for i, x in enumerate(weights))


def check_same_on_ranks(
    dims: tuple[int, ...],
    weights: tuple[float, ...],
    features: tuple[Tensor, Tensor],
    scale: float | Tensor,
    backend: str,
    workspace: int | None,
    process_group: ProcessGroup,
) -> None:
    """Raise ValueError on all ranks if they differ: ranks with more dims would wait for ever."""
    scores = scores_of(
        "matryoshka_clip_loss", *features, scale, True, backend, workspace,
        process_group=process_group,
    )  # fmt: skip
    scores.check_same({"the number of dims": len(dims)})
    scores.check_same(
        {f"dims[{i}]": dim for i, dim in enumerate(dims)}
        | {f"weights[{i}]": weight for i, weight in enumerate(weights)}
    )
