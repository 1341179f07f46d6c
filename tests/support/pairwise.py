"""Few cases instead of all: any two values of two parameters meet in one of them."""

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any


def cover_pairs(*parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Cases with one value of each parameter, for `pytest.mark.parametrize`.

    For each two parameters, each value of the one occurs with each value of the other. A fault that
    takes two particular values to show is found as by all combinations; one that takes three may
    not be. The same parameters give the same cases in the same order.

    Example: three parameters of two values have 8 combinations and 4 cases:

        cover_pairs("ab", (0, 1), (False, True))
        # [("a", 0, False), ("a", 1, True), ("b", 0, True), ("b", 1, False)]
    """
    # Of places and not of values, which need not be hashable.
    combos = list(product(*(range(len(values)) for values in parameters)))
    missing = set().union(*(_pairs(combo) for combo in combos))
    chosen = []
    while missing:
        best = max(combos, key=lambda combo: len(_pairs(combo) & missing))  # the first of equals
        missing -= _pairs(best)
        chosen.append(best)
    return [tuple(values[i] for values, i in zip(parameters, combo, strict=True))
            for combo in sorted(chosen)]  # fmt: skip


def _pairs(combo: tuple[int, ...]) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    """Each two parameters with their places in `combo`."""
    return set(combinations(enumerate(combo), 2))
