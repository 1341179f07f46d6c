"""What mkdocstrings must know of this house's docstrings: `Example:` begins examples."""

import re
from typing import Any

import griffe


class HouseDocstrings(griffe.Extension):
    """Has `Example:` read as Google's `Examples:`, whose lines with >>> are code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:", "Examples:", text, flags=re.MULTILINE)
