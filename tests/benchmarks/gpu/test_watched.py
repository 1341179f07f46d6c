"""Processes that end well, die, hang, lose the device or have no time: what is made of each."""

import json
import subprocess
import sys
import time

import pytest

from fastclip.benchmarks.gpu import watched
from fastclip.benchmarks.gpu.watched import (
    DIED,
    DONE,
    HUNG,
    LOST_DEVICE,
    OUT_OF_TIME,
    Patience,
    Watched,
    watch_cells,
    watch_checks,
)
from fastclip.benchmarks.gpu.worker import LOST

PATIENCE = Patience(line=1.0, start=20.0)
SECONDS = 60.0
SAY = "import json, os, sys, time\ndef say(**line): print(json.dumps(line), flush=True)\n"
PLAN = "say(ready=True); say(plan=[{'name': n, 'kernels': 'k'} for n in 'abc']); say(start='a')\n"
A = PLAN + "say(result={'name': 'a', 'passed': True}); say(start='b')\n"


@pytest.fixture
def processes(monkeypatch):
    """Takes the code of one process after the other, and returns what they were asked for."""

    def run(*codes: str) -> list[dict]:
        left, requests = list(codes), []

        def start(stage, request):
            requests.append(json.loads(json.dumps(request)))
            return subprocess.Popen(
                [sys.executable, "-c", SAY + left.pop(0)], stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip

        monkeypatch.setattr(watched, "start_worker", start)
        return requests

    return run


def watch(seconds: float = SECONDS, patience: Patience = PATIENCE) -> tuple[dict, watched.Ending]:
    """The results by name, and how it ended."""
    rows = []
    end = time.monotonic() + seconds
    ending = watch_checks("stage", {"kernels": "k"}, patience, end, rows.append)
    return {row["name"]: row for row in rows}, ending


def test_one_that_ends_well_has_all_results(processes):
    processes(A + "say(result={'name': 'b', 'passed': False, 'reason': 'off'})")
    rows, ending = watch()
    assert ending.how == DONE
    assert [rows[name]["passed"] for name in "abc"] == [True, False, None]


def test_one_that_hangs_costs_its_patience_and_leaves_the_rest(processes):
    processes(A + "time.sleep(100)")
    before = time.monotonic()
    rows, ending = watch()
    assert time.monotonic() - before < 15.0
    assert (ending.how, ending.at) == (HUNG, "b")
    b = {"name": "b", "kernels": "k", "passed": False, "reason": "hung: nothing for 1 s"}
    assert rows["b"] == b | {"fatal": True}
    assert rows["c"]["passed"] is None and rows["c"]["reason"] == "not run: hung at b"


def test_what_others_print_is_no_sign_of_life(processes):
    processes(A + "while True: print('{still busy', flush=True); time.sleep(0.05)")
    rows, ending = watch()
    assert ending.how == HUNG and rows["b"]["fatal"]


def test_a_note_is_a_sign_of_life(processes):
    processes(A + "for i in range(6): time.sleep(0.4); say(note='busy')")
    assert watch()[1].how == DONE


def test_one_that_crashes_says_how(processes):
    processes(A + "os.write(2, b'double free'); os.abort()")
    rows, ending = watch()
    assert (ending.how, ending.at) == (DIED, "b")
    assert rows["b"]["reason"] == "took its process down: SIGABRT"
    assert rows["b"]["output"] == "double free\n"
    assert rows["c"]["reason"] == "not run: died at b"


def test_one_that_loses_the_device_has_said_so_itself(processes):
    lost = "say(result={'name': 'b', 'passed': False, 'reason': 'illegal', 'fatal': True})\n"
    processes(A + lost + f"sys.exit({LOST})")
    rows, ending = watch()
    assert ending.how == LOST_DEVICE and rows["b"]["reason"] == "illegal"
    assert rows["c"]["passed"] is None and len(rows) == 3


def test_a_death_between_two_checks_is_nobodys_success(processes):
    processes(A + "say(result={'name': 'b', 'passed': True}); os.abort()")
    rows, _ = watch()
    assert rows["b"]["passed"] and rows["after b"]["fatal"]
    assert rows["after b"]["kernels"] == "k" and rows["c"]["passed"] is None


@pytest.mark.parametrize("code, how", [("sys.exit('no module')", DIED), ("time.sleep(99)", HUNG)])
def test_one_that_does_not_start_is_a_failure(processes, code, how):
    processes(code)
    rows, ending = watch(patience=Patience(line=1.0, start=2.0))
    assert ending.how == how and ending.at is None
    assert rows["start of stage"]["fatal"] and rows["start of stage"]["kernels"] == "k"
    assert how == HUNG or rows["start of stage"]["reason"].endswith("exit status 1. no module")


def test_when_time_is_up_nothing_has_failed(processes):
    processes(A + "time.sleep(1.5); say(result={'name': 'b', 'passed': True}); time.sleep(100)")
    rows, ending = watch(seconds=1.0, patience=Patience(line=50.0))
    assert ending.how == OUT_OF_TIME and rows["a"]["passed"] and rows["b"]["passed"]
    assert rows["c"]["passed"] is None and not any("fatal" in row for row in rows.values())


def test_a_hang_when_time_is_up_is_a_hang(processes):
    processes(A + "time.sleep(100)")
    rows, ending = watch(seconds=0.5, patience=Patience(line=2.0))
    assert (ending.how, ending.at) == (HUNG, "b") and rows["b"]["fatal"]


def test_a_process_that_closes_its_output_and_stays_is_taken_to_hang(processes, monkeypatch):
    monkeypatch.setattr(watched, "END_SECONDS", 0.5)
    processes(A + "os.close(1); os.close(2); time.sleep(100)")
    assert watch()[1].how == HUNG


def test_results_come_as_they_are_said(processes):
    processes(A + "time.sleep(100)")
    for line in Watched("stage", {}, PATIENCE, time.monotonic() + SECONDS):
        if line.get("start") == "b":
            break
    else:
        raise AssertionError("b never began")


def test_cells_are_measured_again_without_what_took_a_process_down(processes):
    first = "say(start='x'); say(result={'name': 1}); say(cell='one'); say(start='y'); os.abort()"
    second = "say(start='z'); say(result={'name': 2}); say(cell='two')"
    requests = processes(first, second)
    rows, end = [], time.monotonic() + SECONDS
    endings = watch_cells("stage", {"without": ["w"]}, PATIENCE, end, rows.append)
    assert [row["name"] for row in rows] == [1, 2]
    assert [(request["without"], request["done"]) for request in requests] == [
        (["w"], []), (["w", "y"], ["one"]),
    ]  # fmt: skip
    assert [ending.how for ending in endings] == [DIED, DONE]


def test_cells_that_never_start_are_not_started_for_ever(processes):
    requests = processes(*["sys.exit(1)"] * 20)
    endings = watch_cells("stage", {}, PATIENCE, time.monotonic() + SECONDS, print)
    assert len(requests) == len(endings) == 1


def test_a_stage_runs_in_a_process_of_its_own():
    rows, end = [], time.monotonic() + 200.0
    request = {"device": "cpu", "small": True}
    ending = watch_checks("ceilings", request, watched.COMPILING, end, rows.append)
    assert ending.how == DONE and rows and all(row["rate"] > 0 for row in rows)
