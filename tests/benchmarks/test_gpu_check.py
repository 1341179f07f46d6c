"""gpu-check without a GPU: its rehearsal on the CPU, and what happens when a stage dies."""

import io
import json
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from fastclip.benchmarks import timing
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.gpu import check as gpu_check
from fastclip.benchmarks.gpu import comparison, correctness, speed, training, worker
from fastclip.benchmarks.gpu.report import markdown
from fastclip.benchmarks.providers import Provider
from fastclip.benchmarks.timing import time_together
from fastclip.benchmarks.trainers import SMALL
from fastclip.train.step.random_state import RandomState
from tests.support.interpreter import few_programs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def rehearsing(monkeypatch):
    """Stages in this process, with Triton's kernels interpreted, and little of each measured."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    few_programs(monkeypatch)

    def once(*args, **settings):
        return time_together(*args, **settings | {"rounds": 2, "budget_seconds": 0.0})

    def processor_seconds(call):
        start = time.process_time()
        call()
        return time.process_time() - start

    # What else runs on this machine is not to decide which of two calls is the longer.
    monkeypatch.setattr(timing, "wall_seconds", processor_seconds)
    for module in (comparison, speed):
        monkeypatch.setattr(module, "time_together", once)

    def lines(self, name, request, end):
        monkeypatch.setattr(sys, "argv", ["worker", name, json.dumps(request)])
        with redirect_stdout(io.StringIO()) as said:
            worker.main()
        yield from (json.loads(x) for x in said.getvalue().splitlines() if x.startswith("{"))
        yield None

    monkeypatch.setattr(gpu_check.Check, "_lines", lines)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs gpu-check itself")
@pytest.mark.filterwarnings("default")
def test_rehearsal_writes_results_of_every_stage(rehearsing, tmp_path):
    options = "--device cpu --small --seconds 1000 --output"
    assert gpu_check.main([*options.split(), str(tmp_path)]) == 0
    (path,) = (tmp_path / "rehearsal").glob("*.json")
    content = json.loads(path.read_text())
    names = [row["name"] for row in content["correctness"]]
    assert any(name.startswith("errors triton clip") for name in names)
    assert {"bits triton", "statistics triton", "kept triton"} <= set(names)
    assert all(row["passed"] for row in content["correctness"])
    assert all("rate" in row for row in content["ceilings"])
    timed = {(row["what"], row["backend"]): row["seconds"] for row in content["speed"]}
    assert timed["forward", "triton"] < timed["forward + backward", "triton"]
    (missing,) = [row["reason"] for row in content["tools"] if row["name"] == "backend cuda"]
    assert missing.startswith("not checked: ")
    assert not list(path.parent.glob("*.csv"))  # nothing is verified on a CPU
    training = {row["name"].split(",")[0]: row for row in content["training"]}
    assert {"gradients", "run", "step 64 in micro-batches of 16"} == set(training)
    assert all(row["passed"] for row in training.values())
    assert set(training["gradients"]["errors"]) == {"0", "two", "unlimited"}
    rows = {(row["objective"], row["provider"], row["case"]["N"]): row
            for row in content["comparison"]}  # fmt: skip
    assert rows["clip", "fastclip/triton", 130]["timing"]["seconds"] > 0
    assert rows["siglip", "fastclip/triton", 64]["errors"]["image_features"] < 1e-5
    assert rows["clip", "inf-cl", 130]["reason"] == "runs on cuda only"
    report = path.with_suffix(".md").read_text()
    path.with_suffix(".md").unlink()
    assert gpu_check.main(["--report", str(path), "--no-plots"]) == 0
    assert path.with_suffix(".md").read_text() == report
    assert str(tmp_path) not in report and "`make gpu-check" in report
    assert (
        "checks passed" in report
        and "| triton: every check passes | holds |" in report
        and "## Speed" in report
        and "## Ceilings" in report
        and "## Training" in report
        and "fastclip/triton" in report
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_runs_the_package_that_it_lays_out(tmp_path):
    python, code = tmp_path / "python", (
        "import sys, fastclip.benchmarks.gpu.check as check; print(check.__file__, *sys.argv[1:])"
    )  # fmt: skip
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    python.chmod(0o755)
    command = ["make", "--silent", "gpu-check", f"GPU_PYTHON={python}", f"GPU_OUTPUT={tmp_path}"]
    done = subprocess.run(
        [*command, "GPU_OPTIONS=--device cpu --small"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    file, *arguments = done.stdout.splitlines()[-1].split()
    assert Path(file) == ROOT / "build/gpu/fastclip/benchmarks/gpu/check.py"
    expected = f"-m fastclip.benchmarks.gpu.check --output {tmp_path} --device cpu --small"
    assert arguments == expected.split()


def test_a_stage_runs_in_a_process_of_its_own(tmp_path):
    check = gpu_check.Check(tmp_path / "r.json", {}, 200.0, "cpu", "gpu-check")
    check.stage("ceilings", 200.0, small=True)
    rows = json.loads((tmp_path / "r.json").read_text())["ceilings"]
    assert rows == check.content["ceilings"] != [] and check.content["tools"] == []
    assert all(row["rate"] > 0 for row in rows)


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err


class TestStage:
    def check(self, tmp_path, monkeypatch, runs):
        """A check whose stage's processes print the lines of `runs`, one list per start."""
        requests = []

        def lines(self, name, request, end):
            requests.append({**request, "skip": list(request["skip"])})
            yield from runs[len(requests) - 1]

        monkeypatch.setattr(gpu_check.Check, "_lines", lines)
        return gpu_check.Check(tmp_path / "r.json", {}, 100.0, "cpu", "gpu-check"), requests

    def test_it_goes_on_without_what_took_it_down(self, tmp_path, monkeypatch):
        first = [{"start": "a"}, {"result": {"name": "a", "passed": True}, "key": "a"},
                 {"start": "b"}]  # fmt: skip
        second = [{"start": "c"}, {"result": {"name": "c", "passed": True}, "key": "c"}, None]
        check, requests = self.check(tmp_path, monkeypatch, [first, second])
        check.stage("correctness", 50.0)
        assert set(requests[1]["skip"]) == {"a", "b"}
        found = {row["name"]: row["passed"] for row in check.content["correctness"]}
        assert found == {"a": True, "b": False, "c": True}
        assert check.content["tools"][0]["at"] == "b"

    def test_results_are_on_disk_as_they_come(self, tmp_path, monkeypatch):
        def seen():
            return len(json.loads((tmp_path / "r.json").read_text())["ceilings"])

        class Spying(list):
            def __iter__(self):
                yield {"result": {"name": "a"}, "key": "a"}
                assert seen() == 1
                yield {"result": {"name": "b"}, "key": "b"}
                assert seen() == 2
                yield None

        check, _ = self.check(tmp_path, monkeypatch, [Spying()])
        check.stage("ceilings", 50.0)
        assert seen() == 2

    def test_one_that_never_starts_is_not_started_for_ever(self, tmp_path, monkeypatch):
        check, requests = self.check(tmp_path, monkeypatch, [[]] * 20)
        check.stage("correctness", 50.0)
        assert len(requests) == 1
        assert check.content["tools"][0]["reason"] == "did not start"

    @pytest.mark.alone
    def test_a_silent_process_is_stopped(self, tmp_path, monkeypatch):
        monkeypatch.setattr(gpu_check, "SILENCE_SECONDS", 1.0)
        hanging = 'import time; print(\'{"note": "hi"}\', flush=True); time.sleep(60)'
        popen = subprocess.Popen
        monkeypatch.setattr(
            subprocess, "Popen", lambda command, **kw: popen([sys.executable, "-c", hanging], **kw)
        )
        check = gpu_check.Check(tmp_path / "r.json", {}, 100.0, "cpu", "gpu-check")
        lines = list(check._lines("ceilings", {}, check.deadline))
        assert lines == [{"note": "hi"}]  # and no None: it did not end well


def test_tools_run_beside_each_other_and_their_ends_are_kept(tmp_path):
    check = gpu_check.Check(tmp_path / "r.json", {}, 100.0, "cpu", "gpu-check")
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
    one, two, three = check.content["tools"]
    assert one["passed"] and not two["passed"] and two["output"].strip() == "bad"
    assert not three["passed"] and "no-such-program" in three["reason"]


def test_correct_means_that_every_check_ran_and_passed():
    passed, failed = {"name": "a", "passed": True}, {"name": "b", "passed": False}
    cut = {"name": "stage correctness", "reason": "out of time", "at": "b"}

    def content(correctness, training=(), tools=()):
        return {"correctness": correctness, "training": list(training), "tools": list(tools)}

    assert gpu_check._all_correct(content([passed], [passed]))
    assert not gpu_check._all_correct(content([passed, failed]))
    assert not gpu_check._all_correct(content([passed], [failed]))
    assert not gpu_check._all_correct(content([passed], tools=[cut]))
    assert not gpu_check._all_correct(content([]))


def test_a_wrong_backend_fails_its_check(monkeypatch):
    case = Case(40, 16, torch.float32, 14.3, "random")
    assert correctness.errors("chunked", "clip", case)["errors"]["loss"] < 1e-5
    find = correctness.find_provider

    def wrong(objective, name):
        right = find(objective, name).build()
        return Provider(name, objective, lambda: lambda *x, **k: 1.01 * right(*x, **k))

    monkeypatch.setattr(correctness, "find_provider", wrong)
    with pytest.raises(AssertionError, match="above its budget"):
        correctness.errors("chunked", "clip", case)


def test_a_step_that_draws_other_random_numbers_again_fails_its_check(monkeypatch):
    cpu = torch.device("cpu")
    assert training.gradients(SMALL, cpu)["passed"]
    monkeypatch.setattr(RandomState, "restore", lambda self: None)
    with pytest.raises(RuntimeError, match="the image tower returned another result"):
        training.gradients(SMALL, cpu)


def test_a_provider_that_became_slow_sits_out():
    case = Case(32_768, 768, torch.bfloat16)
    provider = Provider("slow", "clip", lambda: None)
    last = {("clip", "slow", 768, torch.bfloat16): (8192, 1.0)}
    assert comparison._objection("clip", case, provider, [], last) == "would take about 16 s"
    assert comparison._objection("clip", case, provider, ["clip slow"], {}) == (
        "took the process down"
    )
    assert comparison._objection("clip", case, provider, [], {}) is None


def test_report_of_a_run_that_was_stopped_early():
    content = {
        "date": "today", "command": "gpu-check", "host": {"gpu": "X"}, "ceilings": [],
        "correctness": [{"name": "a", "passed": False, "reason": "why"}], "comparison": [],
        "tools": [{"name": "stage x", "reason": "out of time", "at": "y"}],
    }  # fmt: skip
    report = markdown(content)
    assert "0 of 1 checks passed" in report and "- a: why" in report
    assert "out of time at y" in report
