"""Read class names and prompts from JSON files in the forms of CLIP_benchmark and CuPL.

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


class UnusedDataSet(ValueError):
    """A data set was named, but no file is about several data sets."""


class JsonPrompts:
    """Reads JSON files of names and prompts, and takes one data set's entry from files of several.

    Args:
        dataset: the name of the data set; None reads only files about a single data set.
    """

    def __init__(self, dataset: str | None = None) -> None:
        self._dataset = dataset
        self._is_used = False

    def names(self, path: str | os.PathLike) -> list[str]:
        """Read the names of classes.

        Raises:
            OSError, ValueError: see `read_json`; or the file does not hold names.
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
            path: the JSON file.
            names: the names of the classes. A file whose keys are exactly these names is about one
                data set.

        Raises:
            OSError, ValueError: see `read_json`; or the file holds neither templates nor prompts.
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
                f"{os.fspath(path)}: {quoted(templates[0])} is a template, but the prompts of a "
                "class must be complete texts"
            )
        return found

    def require_use(self) -> None:
        """Raise UnusedDataSet if a data set was named but no file is about several data sets."""
        if self._dataset is not None and not self._is_used:
            raise UnusedDataSet(
                f"dataset={self._dataset!r} (--dataset) selects an entry of a JSON file about "
                "several data sets, but no such file was given; leave it out"
            )

    def _has_data_sets(self, values: dict[str, Any]) -> bool:
        """Whether the keys of an object are data sets rather than classes."""
        if self._dataset in values:
            return True
        lists = [texts for texts in values.values() if isinstance(texts, list)]
        return len(lists) < len(values) or all(_is_template(text) for text in chain(*lists))

    def _entry(self, values: dict[str, Any], path: str | os.PathLike) -> Any:
        place, known = os.fspath(path), some_of(values, NAMED)
        if self._dataset is None:
            raise ValueError(
                f"{place} is about several data sets; choose one with dataset (--dataset): {known}"
            )
        if self._dataset not in values:
            raise ValueError(
                f"{place} has no entry for the data set {quoted(self._dataset)}; it has entries "
                f"for {known}"
            )
        self._is_used = True
        return values[self._dataset]


def _read(path: str | os.PathLike) -> Any:
    values = read_json(Path(path), most=MAX_BYTES)
    if not values or not isinstance(values, list | dict):
        raise ValueError(
            f"{os.fspath(path)} must hold a JSON list or object that is not empty, got "
            f"{quoted(values)}"
        )
    return values


def _is_template(text: Any) -> bool:
    return isinstance(text, str) and "{" in text and objection_to(with_braces(text)) is None


def _templates(values: Any, path: str | os.PathLike) -> list[str]:
    found = [with_braces(text) for text in _texts(values, path, "templates")]
    for template in found:
        check_template(template, f"{os.fspath(path)}: ")
    return found


def _texts(values: Any, path: str | os.PathLike, what: str) -> list[str]:
    """Return a list of texts unchanged, or raise a ValueError if an element is blank or no text."""
    place = os.fspath(path)
    if not isinstance(values, list) or not values:
        raise ValueError(f"{place}: {what} must be a list of texts, got {quoted(values)}")
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise ValueError(
                f"{place}: {what} must be texts that are not blank, got {quoted(value)}"
            )
    return values
