"""A query: texts and images, of which some are added and some subtracted, each with a weight.

In words, as a shell splits them:

    cat                        one text
    a red car                  one text, of three words
    cat + dog - "black cat"    parts are joined by the words + and -
    2:cat + 0.5:dog            what stands before the first colon is a weight, 1 if there is none

A part with a colon in its text, or that begins with a sign, has its weight written before it:
`1:"3:10 to Yuma"`, `1:-40 degrees`. A quoted word is text: "cat + dog" in quotes is one part.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastclip.data.quoting import quoted_text

SIGNS = {"+": 1.0, "-": -1.0}
# Of parts that cancel up to what the rounding of a model in 16 bits leaves of them.
SMALLEST_SUM = 1e-3


class QueryError(ValueError):
    """A query that says nothing, or cannot be read; the message quotes the part."""


TEXT, IMAGE, ROW = "text", "image", "row"


@dataclass(frozen=True)
class Part:
    """Attributes:
    value: a text; an image, as its path or the bytes of its file; or the number of a row of what
        is searched, whose own vector is meant.
    weight: not 0; what is subtracted has one below it.
    kind: "text", "image" or "row".
    """

    value: str | bytes | int
    weight: float = 1.0
    kind: str = TEXT

    @property
    def name(self) -> str:
        """What errors call it."""
        if self.kind == ROW:
            return f"row {self.value}"
        return quoted_text(self.value) if isinstance(self.value, str) else "an image"


def parse_words(words: Sequence[str]) -> list[Part]:
    """Return the texts of a query that is given in words; none of no words.

    Raises:
        QueryError: a part is empty, its weight is no number, or a sign is stuck to a word.

    Example:
        >>> parse_words(["cat", "+", "2:black", "dog"])
        [Part(value='cat', weight=1.0, kind='text'),
         Part(value='black dog', weight=2.0, kind='text')]
    """
    if not words:
        return []
    pieces: list[tuple[str, list[str]]] = [("+", [])]
    for number, word in enumerate(words):
        if word not in SIGNS:
            if word[:1] in SIGNS:
                raise QueryError(
                    f"{quoted_text(word)}: write {quoted_text(word[0] + ' ' + word[1:])}, as two "
                    f"words, to {'add' if word[0] == '+' else 'subtract'} it, or "
                    f"{quoted_text('1:' + word)} for a text that begins so"
                )
            pieces[-1][1].append(word)
        elif number == 0:
            pieces = [(word, [])]
        else:
            pieces.append((word, []))
    parts = []
    for sign, own in pieces:
        part = parse_part(" ".join(own))
        parts.append(Part(part.value, SIGNS[sign] * part.weight))
    return parts


def parse_part(text: str, kind: str = TEXT) -> Part:
    """Return a part from `VALUE` or `WEIGHT:VALUE`.

    Args:
        kind: "text", "image" for a path, or "row" for the number of a row.

    Raises:
        QueryError: it is empty, or there is a colon and what stands before it is no weight.
    """
    before, colon, after = text.partition(":")
    value = (after if colon else text).strip()
    if not value:
        raise QueryError(f"a part of the query is empty{f': {quoted_text(text)}' if text else ''}")
    if not colon:
        return _part(value, 1.0, kind)
    try:
        weight = float(before)
    except ValueError:
        raise QueryError(
            f"the weight {quoted_text(before)} is no number; if the colon is part of what is "
            f"searched for, write {quoted_text('1:' + text)}"
        ) from None
    if not math.isfinite(weight) or weight == 0:
        raise QueryError(f"the weight of {quoted_text(text)} must be finite and not 0")
    return _part(value, weight, kind)


def _part(value: str, weight: float, kind: str) -> Part:
    if kind != ROW:
        return Part(value, weight, kind)
    if not (value.isascii() and value.isdecimal() and len(value) < 19):
        raise QueryError(f"{quoted_text(value)} is not the number of a row")
    return Part(int(value), weight, kind)


def combined(vectors: np.ndarray, parts: Sequence[Part]) -> np.ndarray:
    """Return the unit vector along the weighted sum of the unit vectors of parts.

    Args:
        vectors: (n, D), one of each part; of any lengths.

    Returns:
        (D,) float32.

    Raises:
        QueryError: there is no part, a vector is 0 or not finite, or the parts cancel.

    Example:
        >>> combined(np.eye(2), [Part("cat"), Part("dog", -1.0)])
        array([ 0.70710677, -0.70710677], dtype=float32)
    """
    if not parts:
        raise QueryError("the query is empty")
    units = np.array(vectors, np.float64)
    if units.ndim != 2 or len(units) != len(parts):
        raise ValueError(f"{len(parts)} parts have vectors of shape {units.shape}")
    lengths = np.linalg.norm(units, axis=1)
    for part, length in zip(parts, lengths, strict=True):
        if not 0 < length < math.inf:
            raise QueryError(f"{part.name} has a vector of length {length:g}")
    weights = np.array([part.weight for part in parts], np.float64)
    # Relative to the greatest, so that no sum is too large.
    weights /= np.abs(weights).max()
    total = weights @ (units / lengths[:, None])
    length = np.linalg.norm(total)
    if length < SMALLEST_SUM * np.abs(weights).sum():
        raise QueryError("the parts of the query cancel: nothing is left to search for")
    return (total / length).astype(np.float32)
