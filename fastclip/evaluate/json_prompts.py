"""Class names and prompts in JSON, as CLIP_benchmark and CuPL have them.

    ["cat", "dog"]                                names
    ["a photo of a {c}.", "a {}"]                 templates; the name goes where {c} or {} is
    {"cat": ["Cats are small.", ...], ...}        complete prompts of each class (CuPL's form)
    {"pets": ..., "cars": ...}                    one of these for each of several data sets

Sources: CLIP_benchmark 1.6.2, --custom_classname_file and --custom_template_file; Pratt et al.
2022, arXiv:2209.03320 (CuPL).
"""

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from fastclip.data.json_file import read_json
from fastclip.data.quoting import quoted, some_of
from fastclip.evaluate.prompts import MAX_BYTES, check_template, objection_to, with_braces

NAMED = 8  # data sets in a message


class JsonPrompts:
    """Reads such files, of which it takes the entry of one data set, where they have several.

    Args:
        dataset: its name; None reads files about one data set only.
    """

    def __init__(self, dataset: str | None = None) -> None:
        self._dataset = dataset
        self._is_used = False

    def names(self, path: str | os.PathLike) -> list[str]:
        """Read the names of classes.

        Raises:
            OSError, ValueError: see `read_json`; or the file has something else, or nothing.
        """
        values = _read(path)
        if isinstance(values, dict):
            values = self._entry(values, path)
        return _texts(values, path, "names of classes")

    def prompts(
        self, path: str | os.PathLike, names: Sequence[str]
    ) -> list[str] | dict[str, list[str]]:
        """Read templates, or complete prompts of each class.

        Args:
            names: of the classes; a file that is about just these is about one data set.

        Raises:
            OSError, ValueError: see `read_json`; or the file has something else, or nothing.
        """
        values = _read(path)
        if isinstance(values, dict) and set(values) != set(names) and self._has_data_sets(values):
            values = self._entry(values, path)
        if not isinstance(values, dict):
            return _templates(values, path)
        found = {
            name: _texts(texts, path, f"prompts of {quoted(name)}")
            for name, texts in values.items()
        }
        if templates := [text for texts in found.values() for text in texts if _is_template(text)]:
            raise ValueError(
                f"{os.fspath(path)}: {quoted(templates[0])} is a template, but prompts of a class "
                "must be complete"
            )
        return found

    def require_use(self) -> None:
        """Raise a ValueError if a data set was named, and no file was about several."""
        if self._dataset is not None and not self._is_used:
            raise ValueError(
                f"dataset={self._dataset!r}: there is no file about several data sets to take it "
                "from"
            )

    def _has_data_sets(self, values: dict[str, Any]) -> bool:
        """Whether an object is about data sets, and not about classes."""
        if self._dataset in values:
            return True
        lists = [texts for texts in values.values() if isinstance(texts, list)]
        return len(lists) < len(values) or all(_is_template(text) for text in chain(*lists))

    def _entry(self, values: dict[str, Any], path: str | os.PathLike) -> Any:
        place, known = os.fspath(path), some_of(values, NAMED)
        if self._dataset is None:
            raise ValueError(f"{place} is about several data sets, say which: {known}")
        if self._dataset not in values:
            raise ValueError(
                f"{place} has nothing for the data set {quoted(self._dataset)}, but for {known}"
            )
        self._is_used = True
        return values[self._dataset]


def _read(path: str | os.PathLike) -> Any:
    values = read_json(Path(path), most=MAX_BYTES)
    if not values or not isinstance(values, list | dict):
        raise ValueError(f"{os.fspath(path)} must have a list or an object, got {quoted(values)}")
    return values


def _is_template(text: Any) -> bool:
    return isinstance(text, str) and "{" in text and objection_to(with_braces(text)) is None


def _templates(values: Any, path: str | os.PathLike) -> list[str]:
    found = [with_braces(text) for text in _texts(values, path, "templates")]
    for template in found:
        check_template(template, f"{os.fspath(path)}: ")
    return found


def _texts(values: Any, path: str | os.PathLike, what: str) -> list[str]:
    """A list of texts, as it is; what is no text, or blank, is refused."""
    place = os.fspath(path)
    if not isinstance(values, list) or not values:
        raise ValueError(f"{place}: {what} must be a list of texts, got {quoted(values)}")
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{place}: {what} must be texts, got {quoted(value)}")
    return values
