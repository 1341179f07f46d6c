"""JSON files that come with weights and tokenizers, read with errors that name the file."""

import json
from pathlib import Path
from typing import Any

from fastclip.data.regular_file import read_regular

MAX_BYTES = 2**24


def read_json(path: Path, error: type[ValueError] = ValueError) -> Any:
    """Return what the file holds.

    Raises:
        OSError: the file cannot be read.
        error: the file is not JSON.
    """
    try:
        return json.loads(read_regular(path, MAX_BYTES).decode())
    except (ValueError, RecursionError) as reason:
        raise error(f"{path} is not JSON: {reason}") from None


def read_json_object(path: Path, error: type[ValueError] = ValueError) -> dict[str, Any]:
    """Return the object that the file holds; raises as `read_json`, also for another value."""
    values = read_json(path, error)
    if not isinstance(values, dict):
        raise error(f"{path} is not a JSON object")
    return values
