"""Expands braces as bash does, and counts the names first: a short line may mean too many.

{000..012}           numbers, with their leading zeros; {0..9..3} in steps; {a..f} letters
{a,b{0..3},c{x,y}}   lists, with braces in them
"""

import re
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from fastclip.data.quoting import quoted_text

NUMBERS = re.compile(r"(\d{1,18})\.\.(\d{1,18})(?:\.\.(\d{1,18}))?", re.ASCII)
LETTERS = re.compile(r"([a-z])\.\.([a-z])|([A-Z])\.\.([A-Z])")
MAX_NAMES = 10**6
MAX_CHARACTERS = 2**28  # of all names together
MAX_DEPTH = 16  # braces in braces


class _Range(NamedTuple):
    """A range of numbers, or of letters by their code points."""

    points: range
    width: int | None  # of numbers, filled with leading zeros; None for letters


# A text is pieces in a row. A piece is what stands between braces, a range, or a list of texts.
_Piece = str | _Range | list["_Text"]
_Text = list[_Piece]


def expand_all(patterns: Sequence[str]) -> list[str]:
    """Expand all `{000..012}` and `{a,b}`, nested ones too, the leftmost slowest.

    Raises:
        ValueError: a pattern is empty, its braces do not match or hold neither of the two forms,
            or all patterns together mean more than `MAX_NAMES` names.

    Example:
        >>> expand_all(["{a,b{0..1}}.tar"])
        ['a.tar', 'b0.tar', 'b1.tar']
    """
    texts = [_parsed(pattern) for pattern in patterns]
    sizes = list(map(_size, texts))
    if sum(count for count, _ in sizes) > MAX_NAMES:
        raise ValueError(
            f"shards must be at most {MAX_NAMES:,} names, but "
            f"{quoted_text('::'.join(patterns))} means more"
        )
    if sum(count * longest for count, longest in sizes) > MAX_CHARACTERS:
        raise ValueError(
            "shards must have shorter names: the names that "
            f"{quoted_text('::'.join(patterns))} means may have more than {MAX_CHARACTERS:,} "
            "characters together"
        )
    return [name for text in texts for name in _expanded(text)]


def _parsed(pattern: str) -> _Text:
    if not pattern:
        raise ValueError("shards must be named, got an empty name")
    return _Parser(pattern).text()


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._pattern, self._ends = pattern, _ends_of_braces(pattern)

    def text(self, start: int = 0, stop: int | None = None) -> _Text:
        """Return the pieces between two places that are inside the same braces."""
        stop = len(self._pattern) if stop is None else stop
        pieces: _Text = []
        while (brace := self._pattern.find("{", start, stop)) >= 0:
            pieces += [self._pattern[start:brace], self._braces(brace)]
            start = self._ends[brace] + 1
        return [*pieces, self._pattern[start:stop]]

    def _braces(self, start: int) -> _Piece:
        end = self._ends[start]
        bounds, at = [start], start + 1
        while at < end:
            if self._pattern[at] == ",":
                bounds.append(at)
            at = self._ends.get(at, at) + 1
        if len(bounds) == 1:
            return self._range(self._pattern[start + 1 : end])
        return [self.text(a + 1, b) for a, b in zip(bounds, [*bounds[1:], end], strict=True)]

    def _range(self, inside: str) -> _Range:
        if numbers := NUMBERS.fullmatch(inside):
            first, last, step = numbers.groups(default="1")
            if int(first) > int(last) or int(step) == 0:
                raise ValueError(
                    f"shards must have ascending numbers, got {quoted_text(self._pattern)}"
                )
            is_padded = any(len(end) > 1 and end.startswith("0") for end in (first, last))
            width = max(len(first), len(last)) if is_padded else 0
            return _Range(range(int(first), int(last) + 1, int(step)), width)
        if letters := LETTERS.fullmatch(inside):
            first, last = (ord(letter) for letter in letters.groups() if letter)
            if first <= last:
                return _Range(range(first, last + 1), None)
        raise ValueError(
            "shards must have {0..9} or {a,b} in their braces, got "
            f"{quoted_text(self._pattern)}"
        )


def _ends_of_braces(pattern: str) -> dict[int, int]:
    """Return where each brace is closed."""
    ends, opened = {}, []
    for place in re.finditer(r"[{}]", pattern):
        if place[0] == "{":
            opened.append(place.start())
        elif opened:
            ends[opened.pop()] = place.start()
        else:
            raise ValueError(f"shards must have matching braces, got {quoted_text(pattern)}")
        if len(opened) > MAX_DEPTH:
            raise ValueError(
                f"shards must nest braces at most {MAX_DEPTH} deep, got {quoted_text(pattern)}"
            )
    if opened:
        raise ValueError(f"shards must have matching braces, got {quoted_text(pattern)}")
    return ends


def _size(text: _Text) -> tuple[int, int]:
    """Return how many names a text means, up to one too many, and the length of the longest."""
    count, longest = 1, 0
    for piece in text:
        if isinstance(piece, str):
            longest += len(piece)
            continue
        if isinstance(piece, _Range):
            sizes = [(len(piece.points), max(piece.width or 0, len(str(piece.points[-1]))))]
        else:
            sizes = [_size(choice) for choice in piece]
        count = min(count * sum(number for number, _ in sizes), MAX_NAMES + 1)
        longest += max(length for _, length in sizes)
    return count, longest


def _expanded(text: _Text) -> list[str]:
    return ["".join(choice) for choice in product(*map(_choices, text))]


def _choices(piece: _Piece) -> list[str]:
    if isinstance(piece, str):
        return [piece]
    if isinstance(piece, _Range):
        if piece.width is None:
            return list(map(chr, piece.points))
        return [str(number).zfill(piece.width) for number in piece.points]
    return [name for text in piece for name in _expanded(text)]
