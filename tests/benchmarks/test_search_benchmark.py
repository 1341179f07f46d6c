"""The benchmark of search, on vectors few enough for a test; memory is what is promised."""

import re

from fastclip.benchmarks import search


def test_command_prints_ratios_and_memory(capsys):
    args = ["--rows", "20000", "--dim", "512", "--queries", "5", "--rounds", "1"]
    search.main(args)
    told = capsys.readouterr().out
    assert told.startswith("20,000 vectors of 512 float32, the best 10 of each query\n")
    ratios = [float(text) for text in re.findall(r"([\d.]+) of (?:reading|matmul)", told)]
    assert len(ratios) == 2 and all(ratio > 0 for ratio in ratios)
    assert 0 < float(re.search(r"memory +([\d.]+) blocks", told)[1]) <= 1
