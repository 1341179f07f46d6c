"""Write the tables and the figures that support the claims of the documentation.

    python -m fastclip.benchmarks.pages docs

It needs open_clip_torch and matplotlib. Tests compute the tables again and compare them.
"""

import sys
from pathlib import Path

from fastclip.benchmarks.pages import tables
from fastclip.benchmarks.pages.figure import save_rounding
from fastclip.benchmarks.pages.over_ranks import compare_modes


def main(docs: Path) -> None:
    tables.write_table(docs / "huge-batches.md", "accumulation", tables.accumulation_table())
    tables.write_table(docs / "numerics.md", "rounding", tables.rounding_table())
    of_ranks = tables.distributed_table(compare_modes())
    tables.write_table(docs / "distributed.md", "distributed", of_ranks)
    save_rounding(docs / "numerics.png")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m fastclip.benchmarks.pages FOLDER_OF_PAGES")
    main(Path(sys.argv[1]))
