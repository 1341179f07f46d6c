"""gpu-check on both GPU backends, emulated: checks, agreement, speed, and what follows."""

import json

import pytest
import torch

from fastclip.backends.cuda import kernels as cuda_kernels
from fastclip.backends.gpu import verified
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.gpu import correctness, speed
from fastclip.benchmarks.gpu.acceptance import lines
from fastclip.benchmarks.gpu.agreement import agreement
from fastclip.benchmarks.gpu.check import write_report
from fastclip.benchmarks.gpu.kernels import ALL, Kernels, find_kernels, kernels_on, missing_from
from fastclip.benchmarks.gpu.report import markdown
from fastclip.benchmarks.gpu.table import verified_rows
from tests.support.emulator import emulated
from tests.support.interpreter import few_programs

pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs gpu-check itself"),
]
TRITON, PORTABLE, HOPPER = ALL


@pytest.fixture
def all_kernels(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    few_programs(monkeypatch)
    with emulated():
        assert set(kernels_on("cpu", torch.float32)) == set(ALL)
        yield


def emitted(capsys) -> list[dict]:
    found = map(json.loads, capsys.readouterr().out.splitlines())
    return [line["result"] for line in found if "result" in line]


def test_kernels_are_found_by_their_names():
    assert [str(kernels) for kernels in ALL] == ["triton", "cuda-portable", "cuda-hopper"]
    assert find_kernels("cuda-hopper") == HOPPER


def test_without_a_gpu_backends_are_missing_and_say_why():
    assert kernels_on("cpu", torch.float32) == []
    assert "needs features on a GPU" in missing_from("cpu")["triton"]
    assert set(missing_from("cpu")) == {"triton", "cuda"}


@pytest.mark.slow
def test_everything_is_checked_of_all_kernels(all_kernels, capsys):
    correctness.run("cpu", [], small=True)
    rows = {row["name"]: row for row in emitted(capsys)}
    assert all(row["passed"] for row in rows.values()), rows
    kinds = {kernels: {name.split()[0] for name in rows if name.split()[1] == str(kernels)}
             for kernels in ALL}  # fmt: skip
    assert kinds[PORTABLE] == kinds[HOPPER] == kinds[TRITON] | {"agreement"}
    assert kinds[TRITON] == {"errors", "bits", "statistics", "kept"}


def test_kernels_that_differ_are_named(all_kernels, monkeypatch):
    case = Case(70, 24, torch.float32, 100.0, "trained")
    assert agreement(PORTABLE, HOPPER, case)["errors"].keys() >= {
        "G",
        "sums of rows",
        "kept logits",
    }
    right = cuda_kernels.from_kept

    def wrong(region, kept, scalars, block, vectors):
        right(region, kept, scalars, block, vectors)
        block[0, 3, 5] += 0.01 * block.abs().max()

    monkeypatch.setattr(cuda_kernels, "from_kept", wrong)
    with pytest.raises(AssertionError, match="G from kept logits: 1 of "):
        agreement(TRITON, HOPPER, case)


def test_speed_is_that_of_every_set_of_kernels(all_kernels, capsys, monkeypatch):
    monkeypatch.setattr(speed, "time_together", lambda calls, *args, **kwargs: {
        name: call() or RuntimeError("not timed") for name, call in calls.items()
    })  # fmt: skip
    speed.run("cpu", ["triton"], 100.0, small=True)
    rows = emitted(capsys)
    assert [(row["what"], row["variant"]) for row in rows] == [
        (what, variant) for what in (speed.FORWARD, speed.STEP)
        for variant in ("portable", "hopper")
    ]  # fmt: skip
    assert all("not timed" in row["reason"] for row in rows)
    speed.run("cpu", [], -1.0, small=True)
    assert {row["reason"] for row in emitted(capsys)} == {"out of time"}


def content(forward_ms=6.0, step_ms=12.0, **changes) -> dict:
    """Of a run in which both backends passed and cuda-hopper is as fast as that."""
    timed = [
        {"name": "x", "what": what, "backend": "cuda", "variant": "hopper", "N": 32768, "D": D,
         "dtype": dtype, "seconds": 1e-3 * ms, "seconds_low": 1e-3 * ms, "seconds_high": 1e-3 * ms,
         "rounds": 5, "times_floor": 1.1, "extra_bytes": 200 << 20}
        for what, ms in ((speed.FORWARD, forward_ms), (speed.STEP, step_ms))
        for D in (768, 1024)
        for dtype in ("bfloat16", "float32")
    ]  # fmt: skip
    return {
        "date": "2026-11-25T10:00:00+00:00", "command": "make gpu-check",
        "host": {"gpu": "an H200", "architecture": "sm_90"},
        "ceilings": [{"name": "matmul bfloat16", "rate": 700e12, "unit": "FLOP/s"}],
        "correctness": [
            {"name": "errors triton clip a", "passed": True},
            {"name": "errors cuda-hopper clip a", "passed": True},
        ],
        "speed": timed, "training": [], "comparison": [], "tools": [],
    } | changes  # fmt: skip


def holds(results: dict) -> dict[str, bool | None]:
    return {line.name.split(",")[0]: line.holds for line in lines(results)}


def test_acceptance_says_of_every_line_whether_it_holds():
    assert set(holds(content(speed=[])).values()) == {True, None}
    found = holds(content(forward_ms=2.5, step_ms=11.0))
    assert found["cuda-hopper: every check passes"] is True
    assert found["cuda-hopper: forward"] is True  # 660 TFLOP/s
    assert found["cuda-hopper: forward + backward"] is True  # of 9.4 ms
    assert found["triton: forward"] is None
    assert found["cuda-portable: every check passes"] is None
    assert found["cuda-hopper: at most 256 MiB beyond inputs and gradients"] is True
    found = holds(content(forward_ms=3.0, step_ms=12.0))
    assert found["cuda-hopper: forward"] is False
    assert found["cuda-hopper: forward + backward"] is False
    report = markdown(content())
    assert "| cuda-hopper: forward, at least 600 TFLOP/s | DOES NOT HOLD |" in report
    assert "## Speed" in report and "1.27x, 1.10x of the floor" in report


MEASURED = {("bfloat16", 768), ("bfloat16", 1024), ("float32", 768), ("float32", 1024)}


def test_what_passed_goes_into_the_table_as_it_is_read(tmp_path):
    rows = verified_rows(content(), ())
    assert {(row.dtype, row.D) for row in rows} == MEASURED
    assert all((row.architecture, row.kernels) == ("sm_90", ("cuda", "hopper")) for row in rows)
    assert (rows[0].forward_ms, rows[0].step_ms, rows[0].date) == (6.0, 12.0, "2026-11-25")
    verified.write(tmp_path / "table.csv", rows)
    assert verified.read(tmp_path / "table.csv") == tuple(rows)


def test_the_report_of_a_gpu_has_its_table_beside_it(tmp_path, capsys):
    path = tmp_path / "2026-11-25.json"
    write_report(path, content(), plots=False)
    rows = verified.read(tmp_path / "2026-11-25-verified.csv")
    assert rows == tuple(verified_rows(content(), verified.table()))
    assert "## Acceptance" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes",
    [
        {"correctness": [{"name": "errors cuda-hopper clip a", "passed": True},
                         {"name": "agreement cuda-hopper with triton", "passed": False}]},
        {"correctness": []},
        {"tools": [{"name": "stage correctness", "reason": "out of time", "at": "x"}]},
        {"tools": [{"name": "memcheck cuda-hopper", "passed": False, "output": "invalid write"}]},
        {"speed": []},
        {"host": {}},
    ],
)  # fmt: skip
def test_nothing_else_goes_into_the_table(changes):
    assert verified_rows(content(**changes), ()) == []


def test_another_sets_crash_or_a_tool_out_of_time_takes_nothing_away():
    tools = [{"name": "stage correctness", "reason": "taken down", "at": "errors triton clip a"},
             {"name": "memcheck cuda-hopper", "passed": False, "reason": "timed out"},
             {"name": "memcheck triton", "passed": False, "output": "invalid write"}]  # fmt: skip
    assert len(verified_rows(content(tools=tools), ())) == len(MEASURED)


def test_rows_of_what_ran_are_replaced_and_others_stay():
    before = verified_rows(content(), ())
    other = verified_rows(content(host={"gpu": "a B200", "architecture": "sm_100"}), ())
    after = verified_rows(
        content(step_ms=20.0, speed=content(step_ms=20.0)["speed"]), (*before, *other)
    )
    assert set(other) < set(after) and not set(before) & set(after)
    assert len(after) == 2 * len(MEASURED)
    failed = [{"name": "errors cuda-hopper clip a", "passed": False}]
    assert set(verified_rows(content(correctness=failed), (*before, *other))) == set(other)
    # In a run without the CUDA kernels nothing is learned of them.
    assert verified_rows(content(correctness=[]), tuple(before)) == before


def test_kernels_of_one_variant_are_named_by_their_backend():
    assert str(Kernels("chunked")) == "chunked"
