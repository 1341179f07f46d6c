"""`pytest benchmarks/`: long cases run where they are chosen, and none where nothing is timed."""

from types import SimpleNamespace

import pytest

from fastclip.benchmarks import test_losses as benchmark
from fastclip.benchmarks.cases import Case


def config(keyword="", markexpr="", args=("benchmarks",)):
    return SimpleNamespace(option=SimpleNamespace(keyword=keyword, markexpr=markexpr), args=args)


@pytest.mark.parametrize(
    ("options", "is_timed", "sizes"),
    [
        ({"markexpr": "not alone"}, False, [64]),
        ({"keyword": "N8192"}, False, [64]),
        ({}, True, [64, 256, 1024]),
        ({"markexpr": "not alone"}, True, [64, 256, 1024]),
        ({"keyword": "N8192"}, True, [64, 256, 1024, 4096, 8192]),
        ({"args": ["benchmarks/test_losses.py::test"]}, True, [64, 256, 1024, 4096, 8192]),
    ],
)
def test_sizes_that_run(options, is_timed, sizes):
    run = [
        N
        for N in benchmark.SIZES
        if benchmark.objection_to_size(Case(N), config(**options), is_timed) is None
    ]
    assert run == sizes
