"""The data that comes with fastclip, by name: a built-in data set is registered here.

A name may end in a number, as in "digits:2048": pairs are then drawn so many at a time, and without
repetition within a draw, so that a run in order may see more of them than one draw has.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from fastclip.data.digits.grids import PROMPTS
from fastclip.data.digits.source import DigitSource, LoneDigitSource
from fastclip.data.sources.source import LabeledSource, Source


class LabeledData(NamedTuple):
    """Attributes:
    open: returns the images.
    prompts: templates with "{}" where the name of a class goes.
    """

    open: Callable[[], LabeledSource]
    prompts: tuple[str, ...]


# Called with `num_samples`, `seed` and `pairs_per_draw`.
PAIRS: dict[str, Callable[..., Source]] = {
    "digits": partial(DigitSource, held_out=False),
    "digits-held-out": partial(DigitSource, held_out=True),
}
LABELED = {
    "digits": LabeledData(LoneDigitSource, PROMPTS),
    "digits-train": LabeledData(partial(LoneDigitSource, held_out=False), PROMPTS),
}


def is_built_in(spec: str) -> bool:
    """Does this name pairs that are built in?"""
    name, _, size = spec.partition(":")
    return name in PAIRS and (spec == name or size.isdecimal())


def open_built_in(spec: str, num_samples: int | None = None, seed: int = 0) -> Source:
    """Open the pairs of a name.

    Raises:
        ModuleNotFoundError: a package that they come with is not installed.
        ValueError: nothing built in has that name, or there are not so many pairs.
    """
    if not is_built_in(spec):
        names = ", ".join(map(repr, PAIRS))
        raise ValueError(
            f"spec must be one of {names} for builtin data, perhaps with the size of a draw as in "
            f"'digits:2048', got {spec!r}"
        )
    name, _, size = spec.partition(":")
    return PAIRS[name](
        num_samples=num_samples, seed=seed, pairs_per_draw=int(size) if size else None
    )
