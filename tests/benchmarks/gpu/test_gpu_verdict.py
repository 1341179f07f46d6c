"""What results say of kernels, per dtype and class of D, and the table of `auto` that follows."""

import pytest

from fastclip.backends.gpu import verified
from fastclip.benchmarks.gpu.kernels import ALL
from fastclip.benchmarks.gpu.table import verified_rows
from fastclip.benchmarks.gpu.verdict import in_all, verdict
from tests.support.gpu_results import check, content

TRITON, PORTABLE, HOPPER = ALL
KINDS = {(dtype, D) for dtype in verified.DTYPES for D in verified.DIMS}
WRONG = {"passed": False, "reason": "off"}


def right(rows: list[dict]) -> set[tuple[str, int]]:
    """For which features Hopper's kernels are right."""
    return {kind for kind in KINDS if verdict(rows, HOPPER, *kind)[0]}


def checks(*changed: dict) -> list[dict]:
    """All of Hopper's passed, but for these."""
    every = [check("errors", dtype, D) for dtype, D in sorted(KINDS)]
    every += [check("bits", dtype, None) for dtype in verified.DTYPES]
    rows = {row["name"]: row for row in every}
    return list((rows | {row["name"]: row for row in changed}).values())


def test_what_passed_is_right():
    assert right(checks()) == KINDS
    assert verdict(checks(), HOPPER, "bfloat16", 768) == (True, "2 of 2 checks passed")
    assert verdict(checks(), TRITON, "bfloat16", 768) == (None, "was not checked")
    assert in_all(checks(), HOPPER) == (True, "12 of 12") and in_all([], HOPPER)[0] is None


def test_what_fails_counts_against_what_it_is_about():
    rows = checks(check("errors", "float16", 768, **WRONG))
    assert right(rows) == KINDS - {("float16", 768)}
    assert verdict(rows, HOPPER, "float16", 768) == (False, "errors cuda-hopper float16 768: off")
    assert right(checks(check("bits", "float32", None, **WRONG))) == {
        kind for kind in KINDS if kind[0] != "float32"
    }
    assert in_all(rows, HOPPER) == (False, "errors cuda-hopper float16 768")
    # Another's fault is another's.
    assert right(checks(check("errors", "float16", 768, TRITON, **WRONG))) == KINDS


def test_what_a_process_did_not_survive_counts_against_the_set():
    rows = checks(check("errors", "float16", 768, fatal=True, **WRONG))
    assert all(verdict(rows, HOPPER, *kind)[0] is False for kind in KINDS)
    (start,) = [{"name": "start of x", "kernels": "cuda-hopper", "passed": False, "fatal": True}]
    assert verdict([start], HOPPER, "bfloat16", 512)[0] is False


def test_what_did_not_run_leaves_a_verdict_open():
    rows = checks(check("errors", "float32", 512, passed=None))
    assert right(rows) == KINDS - {("float32", 512)}
    assert verdict(rows, HOPPER, "float32", 512) == (None, "1 of 2 checks did not run")
    assert in_all(rows, HOPPER) == (None, "11 of 12")


def test_what_comes_last_counts_only_if_it_fails():
    beyond = check("agreement", "bfloat16", 768)
    assert right(checks(beyond | {"passed": None})) == KINDS
    assert right(checks(beyond | WRONG)) == KINDS - {("bfloat16", 768)}
    assert verdict([beyond], HOPPER, "bfloat16", 768)[0] is None  # alone it decides nothing


MEASURED = {("bfloat16", 768), ("bfloat16", 1024), ("float32", 768), ("float32", 1024)}


def kinds(rows) -> set[tuple[str, int]]:
    return {(row.dtype, row.D) for row in rows}


def test_what_is_right_and_timed_goes_into_the_table_as_it_is_read(tmp_path):
    rows = verified_rows(content(), ())
    assert kinds(rows) == MEASURED
    assert all((row.architecture, row.kernels) == ("sm_90", ("cuda", "hopper")) for row in rows)
    assert (rows[0].forward_ms, rows[0].step_ms, rows[0].date) == (6.0, 12.0, "2026-11-25")
    verified.write(tmp_path / "table.csv", rows)
    assert verified.read(tmp_path / "table.csv") == tuple(rows)


def test_a_wrong_dtype_and_D_takes_itself_out_of_the_table():
    rows = checks(check("errors", "float32", 1024, **WRONG))
    assert kinds(verified_rows(content(correctness=rows), ())) == MEASURED - {("float32", 1024)}


MEMCHECK, RACECHECK = (
    {"name": f"{tool} cuda-hopper", "passed": False} for tool in ("memcheck", "racecheck")
)


@pytest.mark.parametrize(
    "changes",
    [
        {"correctness": []},
        {"correctness": checks(check("errors", "float32", 1024, fatal=True, **WRONG))},
        {"tools": [MEMCHECK | {"output": "invalid write"}]},
        {"tools": [RACECHECK | {"output": "a hazard"}]},
        {"speed": []},
        {"host": {}},
    ],
)
def test_nothing_else_goes_into_the_table(changes):
    assert verified_rows(content(**changes), ()) == []


def test_another_sets_crash_or_a_tool_out_of_time_takes_nothing_away():
    tools = [
        {"name": "stage correctness triton", "reason": "hung", "at": "errors triton clip a"},
        MEMCHECK | {"reason": "timed out"},
        RACECHECK | {"reason": "timed out"},
        {"name": "memcheck triton", "passed": False, "output": "invalid write"},
    ]
    assert kinds(verified_rows(content(tools=tools), ())) == MEASURED


def test_rows_of_what_was_checked_are_replaced_and_others_stay():
    before = verified_rows(content(), ())
    other = verified_rows(content(host={"gpu": "a B200", "architecture": "sm_100"}), ())
    after = verified_rows(content(step_ms=20.0), (*before, *other))
    assert set(other) < set(after) and not set(before) & set(after)
    assert len(after) == 2 * len(MEASURED)
    failed = checks(check("errors", "float32", 1024, **WRONG))
    after = verified_rows(content(correctness=failed, speed=[]), (*before, *other))
    assert set(after) == set(other)  # it was right elsewhere, but has no times of this run
    # In a run without these kernels nothing is learned of them.
    assert verified_rows(content(correctness=[]), tuple(before)) == before
