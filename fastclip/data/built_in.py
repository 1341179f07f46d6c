"""The data sets that come with fastclip, by name.

A name may end in a number, as in "digits:2048": that many pairs are then drawn at a time, without
repetition within a draw, so that a run that reads in order may see more pairs than one draw has.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from fastclip.data.digits.grids import PROMPTS
from fastclip.data.digits.source import DigitSource, LoneDigitSource
from fastclip.data.sources.source import LabeledSource, Source


class LabeledData(NamedTuple):
    """A built-in data set of labelled images.

    Attributes:
        open: returns the images.
        prompts: templates with "{}" for the name of a class.
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
    """Return whether `spec` names built-in pairs."""
    name, _, size = spec.partition(":")
    return name in PAIRS and (spec == name or size.isdecimal())


def open_built_in(spec: str, num_samples: int | None = None, seed: int = 0) -> Source:
    """Open built-in pairs by their name.

    Raises:
        ModuleNotFoundError: the package that the data comes with is not installed.
        ValueError: no built-in data set has that name, or it has fewer pairs than asked for.
    """
    if not is_built_in(spec):
        names = ", ".join(map(repr, PAIRS))
        raise ValueError(
            f"spec must be one of {names} for builtin data, optionally with the size of a draw as "
            f"in 'digits:2048', got {spec!r}"
        )
    name, _, size = spec.partition(":")
    return PAIRS[name](
        num_samples=num_samples, seed=seed, pairs_per_draw=int(size) if size else None
    )
