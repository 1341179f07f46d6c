"""The pages of the documentation, in the order in which mkdocs.yml has them."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DOCS, MKDOCS = ROOT / "docs", ROOT / "mkdocs.yml"


def pages_in_order() -> list[Path]:
    return [DOCS / name for name in _names(yaml.safe_load(MKDOCS.read_text("utf-8"))["nav"])]


def _names(entries: list) -> list[str]:
    found: list[str] = []
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += _names(value) if isinstance(value, list) else [value]
    return found
