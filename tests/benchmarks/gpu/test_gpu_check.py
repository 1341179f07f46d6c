"""gpu-check without a GPU: its rehearsal with all kernels, emulated, and planted faults."""

import json
import sys
import time

import pytest
import torch

from fastclip.benchmarks.gpu import check as gpu_check
from fastclip.benchmarks.gpu import comparison, speed, training
from fastclip.benchmarks.gpu.check import SECTIONS, all_correct
from fastclip.benchmarks.gpu.journal import Journal
from fastclip.benchmarks.gpu.kernels import ALL, CHUNKED
from fastclip.benchmarks.gpu.verdict import verdict
from fastclip.benchmarks.gpu.worker import Check
from fastclip.benchmarks.providers import providers
from fastclip.benchmarks.trainers import SMALL
from fastclip.train.step.random_state import RandomState
from tests.support import planted_kernels
from tests.support.planted_kernels import plant

pytestmark = [
    pytest.mark.rehearsal,
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
TRITON, PORTABLE, HOPPER = ALL
COMPARED = ("fastclip/cuda", "fastclip/chunked", "checkpoint/one-pass")


@pytest.fixture
def check(tmp_path):
    journal = Journal(tmp_path / "gpu-check.json", "gpu-check", {}, SECTIONS)
    return gpu_check.Check(journal, "cpu", 5000.0, small=True)


def later() -> float:
    return time.monotonic() + 1000.0


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_rehearsal_writes_results_of_every_stage(
    all_kernels, forked_workers, once_timed, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(comparison, "providers", lambda objective: [
        provider for provider in providers(objective) if provider.name in COMPARED
    ])  # fmt: skip
    monkeypatch.setattr(comparison, "SMALL_SIZES", (24,))
    # Below, in this process, which has imported a trainer already.
    trained = [Check("gradients", lambda: {"errors": {"0": 1e-6}})]
    monkeypatch.setattr(training, "every_check", lambda *args: trained)
    options = "--device cpu --small --seconds 5000 --output"
    assert gpu_check.main([*options.split(), str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"gpu-check.json", "gpu-check.md"}
    content = json.loads((tmp_path / "gpu-check.json").read_text())
    assert all(row["passed"] for row in content["correctness"])
    kinds = {
        str(kernels): {
            row["name"].split()[0]
            for row in content["correctness"]
            if row["kernels"] == str(kernels)
        }
        for kernels in (*ALL, CHUNKED)
    }
    own = {"errors", "bits", "intervals", "statistics"}
    assert kinds["chunked"] == own and kinds["cuda-hopper"] == own | {"blocks", "kept"}
    assert kinds["triton"] == kinds["cuda-portable"] == kinds["cuda-hopper"] | {"agreement"}
    assert all("rate" in row for row in content["ceilings"])
    timed = {(row["what"], row["backend"], row["variant"]) for row in content["speed"]}
    assert len(timed) == 6 and all(row["seconds"] > 0 for row in content["speed"])
    assert content["training"] == [{"name": "gradients", "passed": True, "errors": {"0": 1e-6}}]
    rows = {(row["objective"], row["provider"]): row for row in content["comparison"]}
    assert rows["siglip", "fastclip/cuda"]["errors"]["image_features"] < 1e-5
    assert rows["clip", "fastclip/cuda"]["timing"]["seconds"] > 0
    report = (tmp_path / "gpu-check.md").read_text()
    assert str(tmp_path) not in report and "`make gpu-check" in report
    assert "| triton: every check passes | holds |" in report
    assert "| cuda-hopper, float16 | right | open | open |" in report
    for title in ("Speed", "Ceilings", "Training", "Correctness"):
        assert f"## {title}" in report
    printed = capsys.readouterr().out
    assert printed.endswith(gpu_check.summary(content) + "\n")

    (tmp_path / "gpu-check.md").unlink()
    assert gpu_check.main(["--report", str(tmp_path / "gpu-check.json")]) == 0
    assert (tmp_path / "gpu-check.md").read_text() == report


@pytest.mark.parametrize(
    "fault",
    [planted_kernels.hang, planted_kernels.crash, planted_kernels.lose_the_device],
    ids=lambda x: x.__name__,
)
def test_a_fault_takes_its_own_kernels_and_no_others(
    fault, emulated_kernels, forked_workers, check, request, monkeypatch
):
    plant(monkeypatch, fault)
    if fault is planted_kernels.hang:
        request.getfixturevalue("impatient_with_hopper")
    check.correctness(later())
    rows = json.loads(check.journal.path.read_text())["correctness"]
    assert check.dead == ["cuda-hopper"]
    assert verdict(rows, HOPPER, "float16", 512)[0] is False
    assert verdict(rows, PORTABLE, "float16", 512)[0] is True
    of_hopper = [row for row in rows if row["kernels"] == "cuda-hopper"]
    assert [row["passed"] for row in of_hopper] == [False] + [None] * (len(of_hopper) - 1)
    assert len(of_hopper) > 3 and of_hopper[0]["fatal"]
    assert of_hopper[1]["reason"].startswith("not run: ")
    # What is dead is nobody's twin, and is measured no more.
    assert not any(row["name"].startswith("agreement") for row in rows)
    assert check.journal.content["tools"][0]["at"] == of_hopper[0]["name"]


def test_what_dies_while_speeds_are_measured_sits_out(
    emulated_kernels, forked_workers, once_timed, check, monkeypatch
):
    plant(monkeypatch, planted_kernels.crash)
    check.cells("speed", later())
    rows = {(row["what"], row["variant"]): row for row in check.journal.content["speed"]}
    assert len(rows) == 4
    for (_, variant), row in rows.items():
        expected = "took a process down" if variant == "hopper" else None
        assert row.get("reason") == expected
    (tool,) = check.journal.content["tools"]
    assert tool["at"] == "cuda-hopper" and "SIGABRT" in tool["reason"]


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_results_are_on_disk_as_they_come(check):
    for number in range(3):
        check.journal.add("speed", {"name": number})
        on_disk = json.loads(check.journal.path.read_text())
        assert [row["name"] for row in on_disk["speed"]] == list(range(number + 1))


def test_tools_run_beside_each_other_and_their_ends_are_kept(check, tmp_path):
    meet = (
        "import time; from pathlib import Path\n"
        "Path({!r}).touch()\n"
        "while not Path({!r}).exists(): time.sleep(0.01)"
    )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    check.tools({
        "one": [sys.executable, "-c", meet.format(a, b)],
        "two": [sys.executable, "-c", meet.format(b, a) + "\nraise SystemExit('bad')"],
        "three": ["no-such-program"],
    }, 30.0)  # fmt: skip
    one, two, three = check.journal.content["tools"]
    assert one["passed"] and not two["passed"] and two["output"].strip() == "bad"
    assert not three["passed"] and "no-such-program" in three["reason"]


def test_correct_means_that_every_check_ran_and_passed():
    passed, failed, not_run = ({"passed": x} for x in (True, False, None))

    def correct(correctness, training=(), tools=()):
        content = {"correctness": correctness, "training": list(training), "tools": tools}
        return all_correct(content)

    assert correct([passed], [passed])
    assert not correct([passed, failed])
    assert not correct([passed], [failed])
    assert not correct([passed, not_run])
    assert not correct([])
    for tool in ("memcheck", "racecheck"):
        found = {"name": f"{tool} cuda-portable", "output": "Invalid __global__ write"}
        assert correct([passed], tools=[found | passed])
        assert not correct([passed], tools=[found | failed])


def test_cells_that_are_there_are_not_measured_again(emulated_kernels, once_timed, capsys):
    (cell,) = speed.cells("cpu", small=True)
    speed.run("cpu", without=[], done=[str(cell)], seconds=100.0, small=True)
    assert capsys.readouterr().out == ""
    speed.run("cpu", without=[], done=[], seconds=-1.0, small=True)
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    results = [line["result"] for line in lines if "result" in line]
    assert len(results) == 4 and {row["reason"] for row in results} == {"out of time"}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_training_is_checked_and_timed(capsys):
    training.run("cpu", without=[], small=True)
    lines = [json.loads(x) for x in capsys.readouterr().out.splitlines() if x.startswith("{")]
    rows = {line["result"]["name"].split(",")[0]: line["result"] for line in lines[1:]
            if "result" in line}  # fmt: skip
    assert {"gradients", "run", "step 32 in micro-batches of 8"} == set(rows)
    assert all(row["passed"] for row in rows.values())
    assert set(rows["gradients"]["errors"]) == {"0", "two", "unlimited"}


def test_a_step_that_draws_other_random_numbers_again_fails_its_check(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(RandomState, "restore", lambda self: None)
    with pytest.raises(RuntimeError, match="the image tower returned another result"):
        training.gradients(SMALL, cpu)
