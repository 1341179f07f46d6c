"""gpu-first without a GPU: all kernels, emulated, and what a planted fault leaves."""

import json

import pytest
import torch

from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.gpu import first
from fastclip.benchmarks.gpu.kernels import ALL
from tests.support import planted_kernels
from tests.support.planted_kernels import plant

pytestmark = [
    pytest.mark.rehearsal,
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
OPTIONS = ["--device", "cpu", "--small", "--seconds", "5000", "--output"]


def results(folder) -> list[dict]:
    return json.loads((folder / "first.json").read_text())["results"]


def test_every_set_is_checked_and_timed(all_kernels, forked_workers, once_timed, tmp_path, capsys):
    assert first.main([*OPTIONS, str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["first.json"]
    rows = results(tmp_path)
    assert all(row["passed"] for row in rows)
    names = [row["name"].split()[1] for row in rows if "step_ms" in row]
    assert names == ["cuda-hopper", "cuda-portable", "triton"]  # what may be lost comes last
    for kernels in ALL:
        kinds = {row["name"].split()[0] for row in rows if row.get("kernels") == str(kernels)}
        assert kinds == {"errors", "bits", "kept"}
    printed = capsys.readouterr().out
    assert printed.endswith(first.table(rows, {}) + "\n")
    assert f"{len(rows)} of {len(rows)} passed" in printed
    assert "time triton random-24x24-float16-normalize-scale100: forward " in printed


@pytest.mark.parametrize(
    "fault", [planted_kernels.hang, planted_kernels.lose_the_device], ids=lambda x: x.__name__
)
def test_a_fault_is_left_and_the_others_go_on(
    fault, emulated_kernels, forked_workers, once_timed, tmp_path, request, monkeypatch, capsys
):
    plant(monkeypatch, fault)
    if fault is planted_kernels.hang:
        request.getfixturevalue("impatient_with_hopper")
    assert first.main([*OPTIONS, str(tmp_path)]) == 1
    rows = {(row.get("kernels"), row["name"]): row for row in results(tmp_path)}
    passed = {kernels: [] for kernels, _ in rows}
    for (kernels, _), row in rows.items():
        passed[kernels].append(row["passed"])
    assert passed["cuda-hopper"][0] is False and set(passed["cuda-hopper"][1:]) == {None}
    assert set(passed["cuda-portable"]) == {True}
    assert "failures" in (said := capsys.readouterr().out) and "backend triton: it needs" in said


def test_the_table_is_bounded(capsys):
    launches = [["a kernel's name that is as long as they come, about fifty", 10, 1.234]] * 9
    rows = [
        {"name": f"time cuda-hopper {'x' * 60} {i}", "passed": True, "forward_ms": 1.0,
         "step_ms": 2.0, "step_times_floor": 1.2, "launches": launches}
        for i in range(50)
    ]  # fmt: skip
    rows += [{"name": f"errors {i}", "passed": False, "reason": "why " * 200} for i in range(500)]
    text = first.table(rows, {"cuda": "not built"})
    assert len(text) < 12_000
    assert "50 of 550 passed" in text and "... and " in text
    assert "time cuda-hopper" in text and "errors 0" in text


def test_times_stay_where_the_profiler_fails(emulated_kernels, once_timed, monkeypatch):
    def fails(call, device):
        raise RuntimeError("CUPTI_ERROR_INSUFFICIENT_PRIVILEGES")

    monkeypatch.setattr(first, "kernel_times", fails)
    case = Case(24, 24, torch.float16, normalize=True)
    row = {"name": "time x", "passed": True, **first.times(ALL[1], case)}
    assert row["forward_ms"] > 0.0 and row["step_ms"] > 0.0 and row["launches"] == []
    assert "CUPTI_ERROR" in first.table([row], {})


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert first.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err
