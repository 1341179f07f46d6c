"""Checks that the JSON of a manifest has all fields, with the right types, and no others."""

import re
from collections.abc import Collection
from dataclasses import fields
from typing import Any

from fastclip.data.quoting import named, some_of

SHOWN = 8  # names in an error
SHA256 = re.compile(r"[0-9a-f]{64}")
# The JSON types of fields that are not text.
TYPES: dict[str, tuple[type, ...]] = {
    "model": (dict, type(None)), "source": (dict, type(None)), "sides": (list,), "files": (list,),
    "skipped": (dict,), "settings": (dict,), "normalized": (bool,), "dim": (int, type(None)),
    "position": (list, type(None)), "statistics": (dict, type(None)), "preprocess_cfg": (dict,),
    "logit_scale": (float, int), "account": (dict,), "rows": (int,), "rows_per_file": (int,),
    "size": (int,), "digests": (dict,), "has_places": (bool,),
}  # fmt: skip


def record(kind: type, values: Any, digests: str | None = None) -> dict[str, Any]:
    """Return the values of the fields of a dataclass.

    Args:
        digests: the name of a field whose value is an object of several digests, not text.

    Raises:
        ValueError: a field is missing or unknown, or of another type.
    """
    names = {f.name for f in fields(kind)}
    if not isinstance(values, dict) or set(values) != names:
        wrong = set(values) ^ names if isinstance(values, dict) else {kind.__name__}
        raise ValueError(f"these fields are unknown or missing: {some_of(sorted(wrong), SHOWN)}")
    for name, value in values.items():
        require(type(value) in TYPES.get("digests" if name == digests else name, (str,)), name)
    return dict(values)


def require(holds: bool, name: str) -> None:
    """Raise a ValueError that names a field unless `holds`."""
    if not holds:
        raise ValueError(f"{named(name)} has an invalid value")


def require_digests(digests: dict[str, Any], wanted: Collection[str], place: str) -> None:
    """Raise ValueError unless there is a SHA-256 for every wanted name, and for no other.

    Args:
        place: where the digests are in the manifest, for the error.
    """
    if lacking := [name for name in wanted if name not in digests]:
        raise ValueError(f"{place} lacks {some_of(lacking, SHOWN)}")
    if more := [name for name in digests if name not in wanted]:
        raise ValueError(f"{place} has unexpected {some_of(more, SHOWN)}")
    for name, digest in digests.items():
        require(is_sha256(digest), name)


def is_sha256(digest: Any) -> bool:
    """Return whether a value is a SHA-256, as hexdigest() writes it."""
    return isinstance(digest, str) and SHA256.fullmatch(digest) is not None
