"""Read sizes, dtypes and fractions as people write them.

    4096, 4k, 32K, 1m        sizes; k is 1,024, as in the field's "a batch of 32k"
    bf16, half, float32      dtypes
    5%, 0.05                 fractions

Every function takes the name of the argument first; if the value is wrong, it raises a ValueError
with the name and the value.
"""

import argparse
import math
import re
from collections.abc import Callable
from typing import Any

UNITS = {"": 1, "k": 2**10, "m": 2**20}
SIZE = re.compile(r"(\d+(?:\.\d+)?)([km]?)", re.IGNORECASE)
DTYPES = ("float32", "bfloat16", "float16", "float64")
SHORT = {
    "float": "float32", "fp32": "float32", "f32": "float32", "bf16": "bfloat16",
    "half": "float16", "fp16": "float16", "f16": "float16", "double": "float64",
    "fp64": "float64", "f64": "float64",
}  # fmt: skip


def size(name: str, value: str | int) -> int:
    """Read a positive whole number, also as "4k" (4,096), "1.5k", "1m" or "8,192"."""
    match = SIZE.fullmatch(str(value).strip().replace(",", "").replace("_", ""))
    found = float(match[1]) * UNITS[match[2].lower()] if match else 0.0
    if not found >= 1 or found != int(found):
        raise ValueError(f"{name} must be a positive number, such as 4096 or 4k, got {value!r}")
    return int(found)


def dtype(name: str, value: Any) -> str:
    """Return a dtype's name, given a name, a short name (bf16, fp16, half) or a torch.dtype."""
    text = str(value).removeprefix("torch.").lower()
    found = SHORT.get(text, text)
    if found not in DTYPES:
        raise ValueError(f"{name} must be one of {', '.join(DTYPES)} or bf16, fp16, got {value!r}")
    return found


def seconds(name: str, value: str | float) -> float:
    """Read a number of seconds, at least 0."""
    found = _number(value)
    if not 0 <= found < math.inf:
        raise ValueError(f"{name} must be a number of seconds, at least 0, got {value!r}")
    return found


def positive(name: str, value: str | float) -> float:
    """Read a finite number above 0."""
    found = _number(value)
    if not 0 < found < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
    return found


def fraction(name: str, value: str | float) -> float:
    """Read a fraction in [0, 10), such as "5%" or 0.05."""
    text = str(value).strip()
    found = _number(text[:-1]) / 100 if text.endswith("%") else _number(text)
    if not 0 <= found < 10:
        raise ValueError(f"{name} must be a fraction, such as 5% or 0.05, got {value!r}")
    return found


def argument(name: str, read: Callable[[str, str], Any]) -> Callable[[str], Any]:
    """Make `read` the `type` of a command's argument, so that argparse reports its errors."""

    def of_text(text: str) -> Any:
        try:
            return read(name, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return of_text


def _number(value: str | float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
