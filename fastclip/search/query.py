"""A query: texts and images that are added or subtracted, each with a weight.

A query is written in words, as a shell splits them:

    cat                        one text
    a red car                  one text of three words
    cat + dog - "black cat"    the words + and - join parts
    2:cat + 0.5:dog            a number before the first colon is the weight; by default it is 1

If the text of a part has a colon or begins with a sign, write its weight before it:
`1:"3:10 to Yuma"`, `1:-40 degrees`. Quoted words are text: "cat + dog" in quotes is one part.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastclip.data.quoting import quoted_text

SIGNS = {"+": 1.0, "-": -1.0}
# Parts cancel if their sum is shorter than what the rounding of a 16-bit model may leave.
SMALLEST_SUM = 1e-3


class QueryError(ValueError):
    """A query that is empty or cannot be understood or read; the message quotes the part."""


TEXT, IMAGE, ROW = "text", "image", "row"


@dataclass(frozen=True)
class Part:
    """A part of a query.

    Attributes:
        value: a text; an image, as a path or the bytes of a file; or the number of a row, which
            stands for the vector of that row.
        weight: not 0; a negative weight subtracts the part.
        kind: "text", "image" or "row".
    """

    value: str | bytes | int
    weight: float = 1.0
    kind: str = TEXT

    @property
    def name(self) -> str:
        """The name of the part in errors."""
        if self.kind == ROW:
            return f"row {self.value}"
        return quoted_text(self.value) if isinstance(self.value, str) else "an image"


def parse_words(words: Sequence[str]) -> list[Part]:
    """Return the texts of a query that is given in words; no parts for no words.

    Raises:
        QueryError: a part is empty, a weight is not a number, or a sign is attached to a word.

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
                    f"words, to {'add' if word[0] == '+' else 'subtract'} the text, or "
                    f"{quoted_text('1:' + word)} for a text that begins with {word[0]}"
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
        text: the part as it is written.
        kind: "text", "image" for a path, or "row" for the number of a row.

    Raises:
        QueryError: the part is empty, or the text before its first colon is not a weight.
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
            f"the weight {quoted_text(before)} is not a number; if the colon belongs to the text "
            f"or path, write {quoted_text('1:' + text)}"
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
    """Return the weighted sum of the parts' unit vectors, normalised to unit length.

    Args:
        vectors: (n, D), one for each part, of any lengths.
        parts: n parts with their weights.

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
        raise ValueError(
            f"vectors must be ({len(parts)}, D), one per part, got shape {units.shape}"
        )
    lengths = np.linalg.norm(units, axis=1)
    for part, length in zip(parts, lengths, strict=True):
        if not 0 < length < math.inf:
            raise QueryError(
                f"{part.name} has a vector of length {length:g}, which has no direction"
            )
    weights = np.array([part.weight for part in parts], np.float64)
    # Relative to the greatest weight, so that sums do not overflow.
    weights /= np.abs(weights).max()
    total = weights @ (units / lengths[:, None])
    length = np.linalg.norm(total)
    if length < SMALLEST_SUM * np.abs(weights).sum():
        raise QueryError("the parts of the query cancel each other; nothing is left to search for")
    return (total / length).astype(np.float32)
