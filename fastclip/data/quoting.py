"""Quotes foreign content in errors: one printable part of a line, whatever its size and depth."""

import reprlib
from collections.abc import Iterable

from fastclip.data.limits import LONGEST_QUOTE, LONGEST_TEXT

_REPR = reprlib.Repr()
_REPR.maxlevel = 2
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = LONGEST_QUOTE


def quoted(value: object) -> str:
    """Return a value as Python writes it, cut, with escapes for what cannot be printed."""
    return _cut(_REPR.repr(value))


def named(name: object) -> str:
    """Return a name without quotes around it, cut, with escapes for what cannot be printed."""
    if isinstance(name, str):
        # Cut before it is written: a name may have megabytes.
        return _cut(repr(name[: LONGEST_QUOTE + 1])[1:-1])
    return quoted(name)


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text, or the beginning of a long text and three dots."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def quoted_text(text: str) -> str:
    """Return a path or a specification in quotes, cut, with escapes for what cannot be printed."""
    return cut(repr(cut(text)))


def some_of(names: Iterable[object], shown: int) -> str:
    """Return the first of many names, and how many more there are."""
    names = list(names)
    more = f", and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(named, names[:shown])) + more


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has no message."""
    lines = str(error).strip().splitlines()
    return named(lines[0]) if lines else type(error).__name__


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 3] + "..."
