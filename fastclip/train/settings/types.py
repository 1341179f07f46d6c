"""Checks the values of settings, which a file or a program gives, against their fields' types.

argparse has converted the value of a flag already; a line of YAML or JSON may hold anything.
"""

import numbers
import os
import reprlib
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

EXPECTED = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text",
    tuple: "a list", dict: "names with values",
}  # fmt: skip


def typed(name: str, value: Any, hint: Any) -> Any:
    """Return `value` in the type that a field of type `hint` keeps.

    Whole numbers are accepted as floats, lists as tuples, and paths as text.

    Args:
        hint: bool, int, float, str, tuple[T, ...], dict[str, Any], or one of these or None.

    Raises:
        ValueError: the value is of another type; the message has the name of the setting, the
            expected type, and the value.
    """
    may_be_none = isinstance(hint, UnionType)
    kind = non_optional(hint)
    if value is None and may_be_none:
        return None
    try:
        return _converted(value, kind)
    except (TypeError, ValueError, OverflowError):
        expected = _described(kind) + (" or null" if may_be_none else "")
        raise ValueError(
            f"{name} must be {expected}, got {reprlib.repr(value)}{_advice(value, kind)}"
        ) from None


def non_optional(hint: Any) -> Any:
    """Return the type of `hint` that is not None."""
    if not isinstance(hint, UnionType):
        return hint
    (kind,) = [kind for kind in get_args(hint) if kind is not NoneType]
    return kind


def _converted(value: Any, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError
        return tuple(_converted(part, get_args(kind)[0]) for part in value)
    if get_origin(kind) is dict:
        if not (isinstance(value, dict) and all(isinstance(key, str) for key in value)):
            raise TypeError
        return dict(value)
    if kind is str:
        value = os.fspath(value)
    number = {int: numbers.Integral, float: numbers.Real}.get(kind, kind)
    if not isinstance(value, number) or (kind is not bool and isinstance(value, bool)):
        raise TypeError
    if kind is float and value != value:
        raise ValueError
    return kind(value)


def _described(kind: Any) -> str:
    text = EXPECTED[get_origin(kind) or kind]
    if get_origin(kind) is tuple:
        text += f" of {EXPECTED[get_args(kind)[0]].removeprefix('a ')}s"
    return text


def _advice(value: Any, kind: Any) -> str:
    """Return what to write instead if a value only looks like the expected type, or nothing."""
    if kind is str and isinstance(value, bool | int | float):
        return ": put it in quotes"
    try:
        looks_like_it = isinstance(value, str) and kind in (int, float) and kind(value) is not None
    except ValueError:
        looks_like_it = False
    return ": write it without quotes, and 1e-3 as 1.0e-3 in YAML" if looks_like_it else ""
