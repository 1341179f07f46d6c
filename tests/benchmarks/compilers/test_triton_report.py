"""Every kernel of Triton compiles for every architecture, without spills and with its tensor cores.

In processes of their own: this one may interpret its kernels, and Triton compiles for one
architecture per process.
"""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from fastclip.benchmarks.compilers.triton import MATRIX_KERNELS, problems


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=900
    )


def python(code: str) -> str:
    result = run("-c", textwrap.dedent(code))
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_every_kernel_compiles_without_spills_and_with_tensor_cores():
    """For one architecture and dtype; `make kernels-report` has the others."""
    result = run(
        "-m", "fastclip.benchmarks.compilers.triton", "--arch", "sm_90", "--dtype", "bfloat16"
    )
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(r["kernel"], r["arch"], r["problems"]) for r in rows if r["problems"]] == []
    assert result.returncode == 0, result.stderr
    assert {(r["arch"], r["dtype"]) for r in rows} == {("sm_90", "bfloat16")}
    assert {r["kernel"] for r in rows} > MATRIX_KERNELS
    assert all(r["registers"] > 0 and r["seconds"] >= 0 for r in rows)


@pytest.mark.slow
def test_a_ragged_last_batch_compiles_nothing_new():
    counts = python("""
        from fastclip.benchmarks.compilers.triton import num_variants
        full, ragged = (4096, 4096, 512), [(4095, 4095, 512), (1, 1, 512), (17, 200, 512)]
        print(num_variants("sm_90", "bfloat16", [full]))
        print(num_variants("sm_90", "bfloat16", [full, *ragged]))
    """)
    alone, together = map(int, counts.split())
    assert alone == together > 10


@pytest.mark.slow
def test_a_tile_that_spills_is_reported():
    found = python("""
        import dataclasses
        import torch
        from fastclip.backends.triton import tiles
        from fastclip.benchmarks.compilers import triton as report
        greedy = dataclasses.replace(tiles.TABLE["sm_90"], keeping=tiles.Tile(256, 128, 64, 8, 3))
        tiles.TABLE["sm_90"] = greedy
        def run_everything(dtype, M, N, D):
            new = lambda *shape: torch.empty(shape, dtype=dtype, device="meta")
            pairs = report.Diagonal(0)
            rectangle = report.Rectangle(new(M, D), new(N, D), new(), pairs, normalize=True)
            report.contrastive_lse(rectangle, None, M, False)
        report.run_everything = run_everything
        for row in report.rows("sm_90", "float32"):
            print(row["kernel"], row["problems"])
    """)
    (line,) = [x for x in found.splitlines() if x.startswith("negative_sums_kernel")]
    assert "spills" in line


def test_what_counts_as_a_problem():
    row = {"kernel": "recomputed_kernel", "arch": "sm_90", "spill_bytes": 0, "mma": 4, "wgmma": 4,
           "tcgen05": 0, "shared_bytes": 100_000, "bulk_loads": 6, "async_copies": 0}  # fmt: skip
    assert problems(row) == []
    assert problems({**row, "spill_bytes": 8}) == ["spills 8 bytes of registers"]
    assert problems({**row, "wgmma": 0}) == ["has no wgmma"]
    assert problems({**row, "bulk_loads": 0}) == ["has no bulk_loads"]
    assert problems({**row, "shared_bytes": 240_000}) == ["needs 240000 bytes of shared memory"]
    assert problems({**row, "kernel": "prepare_kernel", "wgmma": 0, "bulk_loads": 0}) == []
