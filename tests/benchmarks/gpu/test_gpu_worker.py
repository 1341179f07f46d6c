"""A worker: results line by line, and a lost device recognised by the device, not by a text."""

import json

import pytest

from fastclip.benchmarks.gpu import worker
from fastclip.benchmarks.gpu.worker import LOST, Check, run_checks


def lines(capsys) -> list[dict]:
    return [json.loads(text) for text in capsys.readouterr().out.splitlines()]


def fails():
    raise RuntimeError("Triton Error [CUDA]: out of resources\nmore")


def test_results_have_the_facts_of_their_checks(capsys):
    checks = [Check("a", lambda: {"found": 1}, {"D": 512}), Check("b", fails)]
    run_checks(checks, "cpu")
    plan, *rest = lines(capsys)
    assert plan == {"plan": [{"name": "a", "D": 512}, {"name": "b"}]}
    assert rest[0] == {"start": "a"} and rest[2] == {"start": "b"}
    assert rest[1]["result"] == {"name": "a", "D": 512, "passed": True, "found": 1}
    reason = "RuntimeError: Triton Error [CUDA]: out of resources"
    assert rest[3]["result"] == {"name": "b", "passed": False, "reason": reason}


@pytest.mark.parametrize("check", [fails, lambda: None], ids=["raises", "returns"])
def test_a_lost_device_is_found_whatever_the_error_says(check, capsys, monkeypatch):
    def synchronize(device):
        raise RuntimeError("unspecified launch failure")

    monkeypatch.setattr(worker, "synchronize", synchronize)
    with pytest.raises(SystemExit) as ended:
        run_checks([Check("a", check), Check("b", fails)], "cuda")
    assert ended.value.code == LOST
    *_, last = lines(capsys)
    assert last["result"]["name"] == "a" and last["result"]["fatal"]
    assert last["result"]["passed"] is False


def test_an_error_that_leaves_the_device_well_loses_nothing(capsys, monkeypatch):
    monkeypatch.setattr(worker, "synchronize", lambda device: None)
    run_checks([Check("a", fails), Check("b", lambda: None)], "cuda")
    assert [line["result"]["passed"] for line in lines(capsys) if "result" in line] == [False, True]


def test_a_stage_has_a_name():
    with pytest.raises(ValueError, match="stage must be one of"):
        worker.main(["nothing", "{}"])
