"""Further values of a sample besides its image and its caption, by the names of their columns.

Values are what JSON can hold. NaN, which in tables means a missing value, becomes None. Other
numbers that are not finite or have too many digits, values that are nested too deep, and values
beyond what one sample may have are left out: None takes their place, and they are counted.
"""

import datetime
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastclip.data.limits import DEEPEST_JSON
from fastclip.data.quoting import first_line

MAX_COLUMNS_BYTES = 2**20  # of JSON
MOST_COLUMNS = 256
MOST_DIGITS = 640  # of an integer: the lowest value that Python's own limit can be set to


class Columns(NamedTuple):
    values: dict[str, Any]
    left_out: int  # how many numbers, texts, lists and objects None has replaced


def columns_of(contents: bytes) -> Columns:
    """Return the values in the JSON object of a sample.

    Raises:
        ValueError: `contents` is not a JSON object, or has more than `MOST_COLUMNS` values.

    Example:
        >>> columns_of(b'{"width": 640, "score": 1e999}')
        Columns(values={'width': 640, 'score': None}, left_out=1)
    """
    try:
        values = json.loads(contents, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {first_line(error)}") from None
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    if len(values) > MOST_COLUMNS:
        raise ValueError(f"{len(values):,} values, more than {MOST_COLUMNS}")
    return as_columns(values)


def as_columns(values: Mapping[str, Any]) -> Columns:
    """Return values that JSON can hold; dates, bytes and the like become text."""
    taken = _Taken()
    found = taken.value(dict(values), DEEPEST_JSON + 1)
    return Columns(found, taken.left_out)


class _Taken:
    """Converts the values of one sample and counts what they need.

    Attributes:
        left_out: as in `Columns`.
        room: bytes of JSON that further values may take; a character counts as one byte, and so
            does a number. JSON of `MAX_COLUMNS_BYTES`, and a comma after it, never needs more.
    """

    def __init__(self) -> None:
        self.left_out, self.room = 0, MAX_COLUMNS_BYTES + 1

    def value(self, value: Any, levels: int) -> Any:
        """Return a value as JSON can hold it, nested in at most `levels` levels."""
        if isinstance(value, float) and math.isnan(value):
            value = None
        is_nested = isinstance(value, dict | list | tuple)
        if not is_nested:
            value = _as_json(value)
        self.room -= 2 + (len(value) if isinstance(value, str) else 0)
        is_infinite = isinstance(value, float) and math.isinf(value)
        if self.room < 0 or is_infinite or (is_nested and levels == 0):
            self.left_out += 1
            return None
        if isinstance(value, dict):
            return {self._name(name): self.value(part, levels - 1) for name, part in value.items()}
        return [self.value(part, levels - 1) for part in value] if is_nested else value

    def _name(self, name: object) -> str:
        name = str(name)
        self.room -= 2 + len(name)
        return name


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits.lstrip("-")) <= MOST_DIGITS else math.inf


def _as_json(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)
