"""Every kernel of Triton compiles for every architecture, without spills and with its tensor cores.

In a process of its own: this one may interpret its kernels, and Triton compiles for one
architecture per process. It answers all questions: what a kernel compiles to is kept in it.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from fastclip.benchmarks.compilers import triton as report
from fastclip.benchmarks.compilers.triton import MATRIX_KERNELS, problems

QUESTIONS = """
import dataclasses
import json
import torch
from fastclip.backends.triton import tiles
from fastclip.benchmarks.compilers import triton as report

rows = report.rows("sm_90", "bfloat16")
full, ragged = (4096, 4096, 512), [(4095, 4095, 512), (1, 1, 512), (17, 200, 512)]
variants = [report.num_variants("sm_90", "bfloat16", x) for x in ([full], [full, *ragged])]

greedy = dataclasses.replace(tiles.TABLE["sm_90"], keeping=tiles.Tile(256, 128, 64, 8, 3))
tiles.TABLE["sm_90"] = greedy
def run_everything(dtype, M, N, D):
    new = lambda *shape: torch.empty(shape, dtype=dtype, device="meta")
    pairs = report.Diagonal(0)
    rectangle = report.Rectangle(new(M, D), new(N, D), new(), pairs, normalize=True)
    report.contrastive_lse(rectangle, None, M, False)
report.run_everything = run_everything
print(json.dumps([rows, variants, report.rows("sm_90", "float32")]))
"""


@pytest.fixture(scope="module")
def compiled() -> tuple[list[dict[str, Any]], list[int], list[dict[str, Any]]]:
    """All kernels for one architecture and dtype (`make kernels-report` has the others); how many
    variants full and ragged batches have; and the kernels of a tile that is too large."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-c", QUESTIONS],
        capture_output=True, text=True, env=environment, timeout=900,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.compilers
def test_every_kernel_compiles_without_spills_and_with_tensor_cores(compiled):
    rows, _, _ = compiled
    assert [(r["kernel"], r["arch"], r["problems"]) for r in rows if r["problems"]] == []
    assert {(r["arch"], r["dtype"]) for r in rows} == {("sm_90", "bfloat16")}
    assert {r["kernel"] for r in rows} > MATRIX_KERNELS
    assert all(r["registers"] > 0 and r["seconds"] >= 0 for r in rows)


@pytest.mark.slow
@pytest.mark.compilers
def test_a_ragged_last_batch_compiles_nothing_new(compiled):
    _, (alone, together), _ = compiled
    assert alone == together > 10


@pytest.mark.slow
@pytest.mark.compilers
def test_a_tile_that_spills_is_reported(compiled):
    *_, of_the_tile = compiled
    (row,) = [x for x in of_the_tile if x["kernel"] == "negative_sums_kernel"]
    assert any("spills" in problem for problem in row["problems"])


@pytest.mark.parametrize("found, status", [([], 0), (["spills 8 bytes of registers"], 1)])
def test_command_prints_a_line_per_kernel_and_fails_on_problems(monkeypatch, capsys, found, status):
    class Pool:
        def __init__(self, jobs, **options):
            assert options["max_tasks_per_child"] == 1

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def map(self, function, *arguments):
            assert function is report.rows
            return ([{"arch": x, "dtype": y, "problems": found}]
                    for x, y in zip(*arguments, strict=True))  # fmt: skip

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(report, "interpreting", lambda: False)
    monkeypatch.setattr(report, "ProcessPoolExecutor", Pool)
    assert report.main(["--arch", "sm_80", "sm_90", "--dtype", "bfloat16"]) == status
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["arch"], r["problems"]) for r in rows] == [("sm_80", found), ("sm_90", found)]


def test_what_counts_as_a_problem():
    row = {"kernel": "recomputed_kernel", "arch": "sm_90", "spill_bytes": 0, "mma": 4, "wgmma": 4,
           "tcgen05": 0, "shared_bytes": 100_000, "bulk_loads": 6, "async_copies": 0}  # fmt: skip
    assert problems(row) == []
    assert problems({**row, "spill_bytes": 8}) == ["spills 8 bytes of registers"]
    assert problems({**row, "wgmma": 0}) == ["has no wgmma"]
    assert problems({**row, "bulk_loads": 0}) == ["has no bulk_loads"]
    assert problems({**row, "shared_bytes": 240_000}) == ["needs 240000 bytes of shared memory"]
    assert problems({**row, "kernel": "prepare_kernel", "wgmma": 0, "bulk_loads": 0}) == []
