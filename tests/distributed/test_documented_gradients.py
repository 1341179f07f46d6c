"""docs/distributed.md says what the optimiser sees of each library and flag; it is so."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from fastclip.benchmarks.pages import over_ranks, tables

PAGE = Path(__file__).parents[2] / "docs" / "distributed.md"


@pytest.mark.skipif(find_spec("open_clip") is None, reason="open_clip is not installed")
def test_table_of_the_page(ranks):
    truth = over_ranks.gradient_of_rank(None, "fastclip", {})
    compared = {
        name: over_ranks.compare(ranks.run(over_ranks.RANKS, over_ranks.gradient_of_rank, *mode)[0],
                                 truth)
        for name, mode in over_ranks.MODES.items()
    }  # fmt: skip
    assert tables.read_table(PAGE, "distributed") == tables.distributed_table(compared)
