"""Selection of a tower's layers by number, and a loop that keeps their outputs.

Source: the numbering is the one of `feature_take_indices` in timm and open_clip 3.3.0.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

Indices = int | Sequence[int] | None
Intermediates = dict[str, Tensor | list[Tensor]]  # the result of a `forward_intermediates`, by name


def feature_take_indices(
    num_features: int, indices: Indices = None, as_set: bool = False
) -> tuple[list[int] | set[int], int]:
    """Return the numbers, counted from 0, of the layers that `indices` asks for, and the largest.

    Args:
        num_features: how many layers there are.
        indices: a number n for the last n layers, or the numbers of layers, counted from the end if
            negative; None for all layers.
        as_set: whether to return the numbers as a set.

    Raises:
        ValueError: there is no such layer, or `indices` asks for none.

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
                f"indices must be a number from 1 to {num_features}, as many as there are layers, "
                f"or a list of layers, got {indices}"
            )
        indices = range(num_features - indices, num_features)
    if not all(-num_features <= i < num_features for i in indices) or not len(indices):
        raise ValueError(
            f"indices must be layers from {-num_features} to {num_features - 1}, at least one, "
            f"got {indices}"
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
    """Run layers one after the other, and keep the outputs of some of them.

    Args:
        layers: the layers in their order.
        run: a function that applies a layer to its input.
        x: the input of the first layer.
        indices: see `feature_take_indices`.
        stop_early: whether to skip the layers after the last of `indices`.

    Returns:
        the output of the last layer that ran, and the outputs of the layers at `indices`, in the
        order of the layers and each once, as in open_clip and timm.

    Raises:
        ValueError: see `feature_take_indices`.
    """
    layers = list(layers)
    taken, last = feature_take_indices(len(layers), indices, as_set=True)
    found = []
    for i, layer in enumerate(layers[: last + 1] if stop_early else layers):
        x = run(layer, x)
        if i in taken:
            found.append(x)
    return x, found
