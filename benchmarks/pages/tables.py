"""Write tables in Markdown to their places in pages.

In a page, a table is between two comments, which readers do not see:

    <!-- table: accumulation -->
    | ... |
    <!-- end -->
"""

import re
from pathlib import Path

import torch

from fastclip.benchmarks.pages.accumulation import COLUMNS, PARTS, N, accumulation_errors
from fastclip.benchmarks.pages.over_ranks import RANKS, Compared
from fastclip.benchmarks.pages.rounding import gradient_errors

PLACE = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def accumulation_table() -> str:
    head = [f"{N:,} pairs as", *(f"{k} x {N // k:,}" for k in PARTS)]
    rows = [
        [told, *(f"{100 * error:.1f} %" for error in accumulation_errors(data))]
        for data, told in COLUMNS.items()
    ]
    return _table(head, rows)


def distributed_table(compared: dict[str, Compared]) -> str:
    head = [f"W = {RANKS} ranks", "encoders: ratio", "encoders: error", "logit_scale: ratio"]
    rows = [
        [name, f"{c.ratio:.3f}", f"{c.error:.2f}", f"{c.scale_ratio:.3f}"]
        for name, c in compared.items()
    ]
    return _table(head, rows)


def rounding_table() -> str:
    head = ["embeddings", "features", "fastclip", "dense, in the features' dtype"]
    rows = [
        [data, str(dtype).removeprefix("torch."), *(f"{e:.0e}" for e in found)]
        for data in ("random", "cone", "trained")
        for dtype in DTYPES
        for found in [gradient_errors(data, dtype)]
    ]
    return _table(head, rows)


def read_table(page: Path, name: str) -> str:
    """Return the table of this name as it is in a page.

    Raises:
        KeyError: the page has no such table.
    """
    return {found[2]: found[3] for found in PLACE.finditer(page.read_text("utf-8"))}[name]


def write_table(page: Path, name: str, table: str) -> None:
    """Replace the table of this name in a page.

    Raises:
        KeyError: the page has no such table.
    """
    read_table(page, name)
    text = page.read_text("utf-8")
    new = PLACE.sub(lambda m: m[1] + table + m[4] if m[2] == name else m[0], text)
    page.write_text(new, "utf-8")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
