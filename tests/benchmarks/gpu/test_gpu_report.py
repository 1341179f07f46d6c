"""Acceptance, the report, and the summary that must fit the end of an output."""

import dataclasses

import torch

from fastclip.backends.gpu import verified
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.gpu import comparison, summary
from fastclip.benchmarks.gpu.acceptance import lines
from fastclip.benchmarks.gpu.check import write_report
from fastclip.benchmarks.gpu.kernels import ALL
from fastclip.benchmarks.gpu.report import markdown
from fastclip.benchmarks.gpu.speed import FORWARD, STEP
from fastclip.benchmarks.gpu.table import verified_rows
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.results import Row, row_to_json
from fastclip.benchmarks.timing import Timing
from tests.support.gpu_results import check, content

TRITON, PORTABLE, HOPPER = ALL


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


def test_the_report_has_it_all():
    failed = check("errors", "float16", 512, passed=False, reason="off")
    not_run = check("bits", "float16", None, passed=None, reason="not run: hung at x")
    report = markdown(content(correctness=[*content()["correctness"], failed, not_run]))
    assert "| cuda-hopper: forward, at least 600 TFLOP/s | DOES NOT HOLD |" in report
    assert "## Speed" in report and "1.27x, 1.10x of the floor" in report
    assert "| cuda-hopper, bfloat16 | right | right | right |" in report
    assert "| cuda-hopper, float16 | WRONG | open | open |" in report
    assert "9 of 11 checks passed" in report
    assert "- errors cuda-hopper float16 512: off" in report
    assert "- bits cuda-hopper float16: not run: hung at x" in report


def test_the_report_of_a_gpu_has_its_table_beside_it(tmp_path):
    write_report(tmp_path / "gpu-check.json", content())
    rows = verified.read(tmp_path / "verified.csv")
    assert rows == tuple(verified_rows(content(), verified.table()))
    assert "## Acceptance" in (tmp_path / "gpu-check.md").read_text()


def test_report_of_a_run_that_was_stopped_early():
    report = markdown(content(
        correctness=[], ceilings=[], speed=[],
        tools=[{"name": "stage x", "reason": "out of time", "at": "y"}],
    ))  # fmt: skip
    assert "0 of 0 checks passed" in report and "out of time at y" in report


def compared(provider: str, N: int, autocast: bool = False) -> dict:
    case = Case(N, 768, torch.bfloat16, autocast=autocast, normalize=True, device="cuda")
    row = Row(case, provider, timing=Timing(0.01, 0.01, 0.01, 3, 7e14, 1.3))
    return {"name": f"clip {case} {provider}", "objective": "clip", **row_to_json(row)}


def test_ours_and_eager_code_under_autocast_stand_in_one_table():
    rows = [compared("fastclip/cuda", 4096), compared("open_clip", 4096, autocast=True)]
    report = markdown(content(comparison=rows))
    _, _, rest = report.partition("## bfloat16, random embeddings, D = 768")
    table, _, _ = rest.partition("\n#")
    assert "| fastclip/cuda | 1.30x" in table and "| open_clip | 1.30x" in table
    assert "run under autocast to bfloat16" in report


def test_the_summary_has_what_matters():
    rows = [compared("fastclip/cuda", 4096), compared("open_clip", 4096, autocast=True)]
    text = summary.summary(content(comparison=rows))
    assert "DOES NOT HOLD: cuda-hopper: forward, at least 600 TFLOP/s: 275, 6.00 ms" in text
    assert "cuda-hopper bfloat16: right, right, right" in text
    assert "forward + backward 32768x768 bfloat16: cuda-hopper 12.000 ms (1.27x)" in text
    assert "clip 4096x768 bfloat16: cuda 10.00, open_clip 10.00" in text


def test_the_summary_is_bounded_whatever_happened():
    """Of an output, the last 12,000 characters come back."""
    correctness, speed = [], []
    for kernels in ALL:
        correctness += [
            check(f"errors-{i}", "float16", D, kernels, passed=False, reason="why " * 100)
            for D in (512, 768, 1024)
            for i in range(100)
        ]
        speed += [
            {"what": what, "backend": kernels.backend, "variant": kernels.variant, "N": N, "D": D,
             "dtype": dtype, "seconds": 1.234567, "times_floor": 1.2}
            for what in (FORWARD, STEP)
            for N in (8192, 32_768, 131_072)
            for D in (512, 768, 1024)
            for dtype in verified.DTYPES
        ]  # fmt: skip
    tools = [{"name": f"tool {i}", "reason": "x" * 400} for i in range(60)]
    rows = [compared(f"provider {p}", N) for p in range(20) for N in (1, 2, 3, 4, 5, 6, 7)]
    text = summary.summary(content(
        correctness=correctness, speed=speed, tools=tools, comparison=rows,
        training=[{"name": "run", "passed": False}] * 50,
    ))  # fmt: skip
    assert len(text) <= summary.LIMIT < 12_000
    for title in ("Acceptance", "Right", "Failures", "Other findings", "Speed", "Comparison"):
        assert f"== {title}" in text
    assert text.count("\n... and ") >= 3
    assert "DOES NOT HOLD: triton: every check passes" in text
    assert "forward 32768x768 bfloat16: triton " in text


def test_a_section_says_how_much_it_leaves_out():
    lines_ = ["one", "two", "three"]
    assert summary.section("T", lines_, 100) == "== T\none\ntwo\nthree\n"
    assert summary.section("T", lines_, 24) == "== T\none\n... and 2 more\n"
    long = summary.section("T", ["x" * 1000], 1000)
    assert len(long) < 200 and long.endswith("...\n")


def test_a_provider_that_became_slow_sits_out():
    case = Case(32_768, 768, torch.bfloat16)
    provider = Provider("slow", "clip", lambda: None)
    last = {("clip", "slow", 768, torch.bfloat16): (8192, 1.0)}
    assert comparison._objection("clip", case, provider, [], last) == "would take about 16 s"
    assert comparison._objection("clip", case, provider, ["clip slow"], {}) == (
        "took the process down"
    )
    assert comparison._objection("clip", case, provider, [], {}) is None
    compiled = dataclasses.replace(provider, name="transformers+compile", compiled=True)
    assert "the same formula" in comparison._objection("clip", case, compiled, [], {})
