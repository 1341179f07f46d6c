"""Layers that are read on the way through a tower, by their numbers.

Source: the numbering is `feature_take_indices`' of timm and open_clip 3.3.0.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

Indices = int | Sequence[int] | None
Intermediates = dict[str, Tensor | list[Tensor]]  # what a `forward_intermediates` returns, by name


def feature_take_indices(
    num_features: int, indices: Indices = None, as_set: bool = False
) -> tuple[list[int] | set[int], int]:
    """Return the numbers, counted from 0, of the layers that `indices` asks for, and the largest.

    Args:
        num_features: how many layers there are.
        indices: a number n for the last n layers, or the numbers of layers, of which negative ones
            count from the end; None for all layers.
        as_set: return the numbers as a set.

    Raises:
        ValueError: there is no such layer, or none is asked for.

    Example:
        >>> feature_take_indices(12, 3)
        ([9, 10, 11], 11)
        >>> feature_take_indices(12, [2, -2])
        ([2, 10], 10)
    """
    if indices is None:
        indices = num_features
    if isinstance(indices, int):
        if not 1 <= indices <= num_features:
            raise ValueError(
                f"indices must be at most the {num_features} layers that there are, and at least "
                f"1, got {indices}"
            )
        indices = range(num_features - indices, num_features)
    if not all(-num_features <= i < num_features for i in indices) or not len(indices):
        raise ValueError(
            f"indices must be layers from {-num_features} to {num_features - 1}, got {indices}"
        )
    taken = [i % num_features for i in indices]
    return set(taken) if as_set else taken, max(taken)


def run_layers(
    layers: Iterable[Any],
    run: Callable[[Any, Tensor], Tensor],
    x: Tensor,
    indices: Indices,
    stop_early: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Run layers one behind the other, and keep what some of them return.

    Args:
        run: a layer on its input.
        indices: see `feature_take_indices`.
        stop_early: leave out the layers behind the last of `indices`.

    Returns:
        what the last layer that was run returned, and what those at `indices` returned: in the
        order of the layers, each once, as open_clip and timm have it.
    """
    layers = list(layers)
    taken, last = feature_take_indices(len(layers), indices, as_set=True)
    found = []
    for i, layer in enumerate(layers[: last + 1] if stop_early else layers):
        x = run(layer, x)
        if i in taken:
            found.append(x)
    return x, found
