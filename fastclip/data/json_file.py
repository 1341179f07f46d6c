"""Reads JSON files that come with weights and tokenizers; errors name the file."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from fastclip.data.limits import DEEPEST_JSON, LARGEST_JSON, MOST_VALUES
from fastclip.data.quoting import first_line, quoted
from fastclip.data.regular_file import open_regular

PLAIN = (str, int, float, bool, type(None))


class _Twice(ValueError):
    """An object has a key twice."""


def read_json(path: Path, error: type[ValueError] = ValueError, most: int = LARGEST_JSON) -> Any:
    """Return the contents of a JSON file.

    Args:
        error: the class of error to raise.
        most: the most bytes that the file may have.

    Raises:
        OSError: the file cannot be read.
        error: the file is not JSON, is larger than `most`, or nested deeper than
            `DEEPEST_JSON`.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise error(f"{path} has more than {most:,} bytes, which is too large for this JSON file")
    return parse_json(content, str(path), error)


def parse_json(
    content: bytes, name: str, error: type[ValueError] = ValueError, *, once: bool = False
) -> Any:
    """Return the value of JSON in UTF-8.

    Args:
        name: the name of the content in errors.
        error: the class of error to raise.
        once: refuse an object that has a key twice; otherwise the last value of a key counts.

    Raises:
        error: `content` is not JSON, is nested deeper than `DEEPEST_JSON`, or has a key twice.
    """

    def only_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            keys = Counter(key for key, _ in pairs)
            raise _Twice(f"{name} has {quoted(keys.most_common(1)[0][0])} twice")
        return values

    try:
        values = json.loads(content.decode(), object_pairs_hook=only_once if once else None)
    except _Twice as reason:
        raise error(str(reason)) from None
    except RecursionError:
        raise error(f"{name} is nested deeper than {DEEPEST_JSON} levels") from None
    except ValueError as reason:
        raise error(f"{name} is not JSON: {first_line(reason)}") from None
    if not _ends(values, len(content)):
        raise error(f"{name} is nested deeper than {DEEPEST_JSON} levels")
    return values


def read_json_object(path: Path, error: type[ValueError] = ValueError) -> dict[str, Any]:
    """Return the JSON object in a file; raises as `read_json`, also if it holds no object."""
    values = read_json(path, error)
    if not isinstance(values, dict):
        raise error(f"{path} is not a JSON object")
    return values


def require_json(values: Any) -> None:
    """Raise unless values from another format could also be written as JSON.

    Raises:
        ValueError: the values have another type, contain themselves, or are too many.
    """
    if not _ends(values, MOST_VALUES):
        raise ValueError("its values are nested too deep, or there are too many")
    for value in _everything(values):
        if type(value) not in (dict, list, tuple, *PLAIN):
            raise ValueError(f"a {type(value).__name__} is among its values")
        if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
            raise ValueError("a name among its values is not text")


def _ends(values: Any, most: int) -> bool:
    """Return whether values are not nested too deep, and are not more than `most`.

    The values are counted level by level, because a value that contains itself has no end.
    """
    level = [values]
    for _ in range(DEEPEST_JSON + 1):
        level = list(islice((part for value in level for part in _parts(value)), most + 1))
        most -= len(level)
        if not level or most < 0:
            break
    return not level


def _everything(values: Any) -> Iterator[Any]:
    waiting = [values]
    while waiting:
        yield (value := waiting.pop())
        waiting.extend(_parts(value))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()
