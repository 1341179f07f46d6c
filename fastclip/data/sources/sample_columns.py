"""What is known of a sample beside its image and its caption: values by the names of columns."""

import json
from typing import Any

from fastclip.data.quoting import first_line

MAX_COLUMNS_BYTES = 2**20  # of JSON
MOST_COLUMNS = 256


def columns_of(contents: bytes) -> dict[str, Any]:
    """Return the values in the JSON object of a sample; what is no number there is None.

    Raises:
        ValueError: it is no JSON object, or has more than `MOST_COLUMNS` values.
    """
    try:
        values = json.loads(contents, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {first_line(error)}") from None
    if not isinstance(values, dict):
        raise ValueError("no JSON object")
    if len(values) > MOST_COLUMNS:
        raise ValueError(f"{len(values):,} values, more than {MOST_COLUMNS}")
    return values
