"""Take the fields of a request's JSON, each with a type and a range; unknown fields are errors."""

import difflib
import math
from typing import Any

from fastclip.data.quoting import named, quoted
from fastclip.serve.refusal import Refusal


class Fields:
    """The fields of a JSON object, which are taken by name; null counts as a missing field.

    Args:
        values: the parsed JSON.
        what: the name of the object in errors, for example "part 2", if it is part of a request.

    Raises:
        Refusal: `values` is not an object. Every method raises it if a value has the wrong type or
            is out of range.
    """

    def __init__(self, values: Any, what: str = "the request") -> None:
        if not isinstance(values, dict):
            raise Refusal(400, f"{what} must be a JSON object, got {quoted(values)}")
        self._left, self._what, self._known = dict(values), what, []

    def take(self, name: str, default: Any = None) -> Any:
        """Take a value of any type."""
        self._known.append(name)
        value = self._left.pop(name, None)
        return default if value is None else value

    def text(self, name: str) -> str | None:
        value = self.take(name)
        self._require(value is None or isinstance(value, str), name, "a text", value)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.take(name, default)
        self._require(isinstance(value, bool), name, "true or false", value)
        return value

    def number(self, name: str, default: float | None = None) -> float | None:
        value = self.take(name, default)
        is_one = isinstance(value, int | float) and not isinstance(value, bool)
        self._require(
            value is None or (is_one and _is_finite(value)), name, "a finite number", value
        )
        return None if value is None else float(value)

    def count(self, name: str, default: int | None, most: int) -> int | None:
        """Take an integer from 1 to `most`."""
        value = self.take(name, default)
        is_one = isinstance(value, int) and not isinstance(value, bool)
        self._require(
            value is default or (is_one and 1 <= value <= most), name,
            f"an integer from 1 to {most}", value,
        )  # fmt: skip
        return value

    def choice(self, name: str, options: tuple[str, ...], default: str | None = None) -> str | None:
        value = self.take(name, default)
        self._require(
            value is None or value in options, name, f"one of {', '.join(options)}", value
        )
        return value

    def end(self) -> None:
        """Raise a Refusal if there is a field that was not taken."""
        for name in self._left:
            near = difflib.get_close_matches(name, self._known, n=1)
            hint = f"; nearest: {near[0]}" if near else f"; known are {', '.join(self._known)}"
            raise Refusal(400, f"{self._what} has an unknown field {named(name)}{hint}", name)

    def _require(self, holds: bool, name: str, what: str, value: Any) -> None:
        if not holds:
            where = "" if self._what == "the request" else f" of {self._what}"
            raise Refusal(400, f"{name}{where} must be {what}, got {quoted(value)}", name)


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
