"""Compares the model and the data of a run by content, because flags and paths only name them.

A checkpoint keeps the contents of every subject: the model, the training data, the computed and the
stored teachers, the validation data and each zero-shot task. Subjects are flags, or names of tasks.
It does not matter where files are.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from fastclip.data.quoting import cut
from fastclip.data.sources.source import Contents

MODEL, TRAIN, TEACHER, VALIDATION = "--model", "--train-data", "--distill-model", "--val-data"
STORED_TEACHER = "--distill-embeddings"
NUM_NAMED, NUM_SHOWN = 3, 120  # differences in a message, and characters of each


def contents_of_config(config: Mapping[str, Any], prefix: str = "") -> Contents:
    """Return the fields of a model's configuration (JSON), without dropout, which may change."""
    found: Contents = []
    for name, value in sorted(config.items()):
        if isinstance(value, Mapping):
            found += contents_of_config(value, f"{prefix}{name}.")
        elif name != "patch_dropout":
            found.append((prefix + name, repr(value)))
    return found


def stored_contents(content: Mapping[str, Any]) -> dict[str, Contents]:
    """Return the contents in a checkpoint; older checkpoints only have the model's architecture.

    Raises:
        ValueError: the contents in the checkpoint are malformed.
    """
    if "contents" not in content:
        return {MODEL: contents_of_config(content["model_config"])}
    contents = content["contents"]
    try:
        return {
            str(subject): [(str(n), str(v)) for n, v in contents[subject]] for subject in contents
        }
    except (TypeError, ValueError, LookupError):
        raise ValueError("the contents of model and data in the checkpoint are not lists") from None


def mark_of(contents: Contents) -> str:
    """Return 16 hexadecimal digits by which a line of results.jsonl identifies contents."""
    return hashlib.sha256(repr(contents).encode(errors="backslashreplace")).hexdigest()[:16]


def difference(before: Contents, now: Contents) -> str | None:
    """Return the first differences between two contents as clauses, or None if they are equal.

    Example:
        >>> difference([("0.tar", "10 bytes"), ("1.tar", "7 bytes")], [("0.tar", "9 bytes")])
        '0.tar was 10 bytes, is now 9 bytes; 1.tar is gone'
    """
    if before == now:
        return None
    if [name for name, _ in before] == [name for name, _ in now]:
        pairs = zip(before, now, strict=True)
        said = [_changed(name, was, value) for (name, was), (_, value) in pairs if was != value]
    else:
        said = _of_names(before, now)
    more = f"; and {len(said) - NUM_NAMED:,} more" if len(said) > NUM_NAMED else ""
    return "; ".join(said[:NUM_NAMED]) + more


def _of_names(before: Contents, now: Contents) -> list[str]:
    was, values = dict(before), dict(now)
    changed = [
        _changed(name, was[name], values[name])
        for name in was
        if name in values and was[name] != values[name]
    ]
    names, now_names = Counter(n for n, _ in before), Counter(n for n, _ in now)
    gone = [f"{cut(name, NUM_SHOWN)} is gone" for name in names - now_names]
    new = [f"{cut(name, NUM_SHOWN)} is new" for name in now_names - names]
    return changed + gone + new or ["the order has changed"]


def _changed(name: str, was: str, value: str) -> str:
    name, was, value = (cut(text, NUM_SHOWN) for text in (name, was, value))
    return f"{name} was {was}, is now {value}"
