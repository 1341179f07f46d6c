"""What a run saves is finite, and a run that took no step is no success."""

import json
import math

import pytest
import torch

from fastclip.cli import main
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.not_finite import require_finite, stored_not_finite
from fastclip.train.step.optimizer_step import OptimizerStep
from tests.support.runs import arguments, final

SMALL = {
    "train_num_samples": 128, "global_batch_size": 32, "micro_batch_size": 32, "epochs": 2,
    "activation_budget": "unlimited",
}  # fmt: skip


@pytest.fixture
def poison(monkeypatch):
    """Makes a gradient infinite in some of the steps that a process takes."""

    def poison(is_bad):
        over, steps = CachedStep.over, []

        def poisoned(self, batches):
            result = over(self, batches)
            steps.append(result)
            if is_bad(len(steps)):
                self.model.visual.proj.grad.fill_(math.inf)
            return result

        monkeypatch.setattr(CachedStep, "over", poisoned)

    return poison


def assert_finite(directory):
    paths = list((directory / "checkpoints").glob("*.pt"))
    assert paths
    for path in paths:
        assert not stored_not_finite(torch.load(path, weights_only=True)), path


def results(directory):
    return [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("bad_step", [6, 8])  # inside of an epoch, and the last one of the run
def test_gradient_that_is_not_finite_is_never_saved(poison, bad_step, tmp_path, capsys):
    poison(lambda step: step == bad_step)
    assert main(arguments(tmp_path, "run", **SMALL)) == 2
    told = capsys.readouterr().err
    assert f"the gradient of step {bad_step} is not finite, in the image tower: visual.proj" in told
    assert_finite(tmp_path / "run")
    assert final(tmp_path, "run")["global_step"] == bad_step - 1


def test_skipped_steps_are_counted_over_a_resumption(poison, tmp_path):
    poison(lambda step: step in (2, 7))
    argv = arguments(tmp_path, "run", **SMALL, on_nonfinite="skip")
    assert main([*argv, "--epochs", "1", "--lr-scheduler", "const"]) == 0
    assert main([*argv, "--resume", "latest", "--lr-scheduler", "const"]) == 0
    assert_finite(tmp_path / "run")
    content = final(tmp_path, "run")
    assert content["global_step"] == 8 and content["ema_updates"] == 6
    assert [line["steps"] for line in results(tmp_path / "run")] == [
        {"taken": 3, "skipped": 1, "overflowed": 0}, {"taken": 6, "skipped": 2, "overflowed": 0},
    ]  # fmt: skip
    log = (tmp_path / "run" / "out.log").read_text()
    assert "WARNING | the gradient of step 7 is not finite" in log
    assert log.count("Steps left out: 1") == 5 and log.count("Steps left out: 2") == 2
    assert "finished 2 of 2 epochs; so far, 6 steps taken, 2 left out (2 not finite)" in log


def test_run_whose_every_step_overflows_is_no_success(poison, tmp_path, capsys):
    poison(lambda step: True)
    argv = arguments(tmp_path, "run", **SMALL | {"epochs": 1}, precision="amp")
    assert main(argv) == 2
    told = "no step of {} was taken (in the whole run: 0 steps taken, 4 left out (4 overflow"
    assert told.format("epoch 1") in capsys.readouterr().err
    content = final(tmp_path, "run")
    assert content["scaler"]["scale"] == 2.0**12 and content["ema_updates"] == 0
    assert main([*argv, "--resume", "latest"]) == 2
    assert told.format("the run") in capsys.readouterr().err


def test_weights_that_are_not_finite_are_not_saved(tmp_path, monkeypatch, capsys):
    take = OptimizerStep._take

    def take_too_far(self, *args):
        take(self, *args)
        if self.counts.taken == 3:
            with torch.no_grad():
                self.average.module.visual.proj[0, 0] = math.inf

    monkeypatch.setattr(OptimizerStep, "_take", take_too_far)
    assert main(arguments(tmp_path, "run", **SMALL)) == 2
    told = capsys.readouterr().err
    assert (
        "the checkpoint after step 3 is not written, because ['ema_state_dict']['visual.proj']"
        in told
    )
    assert "the newest good checkpoint is " in told and "step_000000002.pt: lower" in told
    assert_finite(tmp_path / "run")


def test_what_is_not_finite_is_found_among_values_of_all_kinds():
    nan = torch.tensor([0.0, math.nan])
    content = {
        "a": [torch.ones(2), nan.half()], "b": {"c": torch.tensor(math.inf)}, "d": 3, "e": "x",
        "f": torch.tensor([2**40]), "g": torch.empty(0), "h": torch.tensor([True]), "i": -nan,
    }  # fmt: skip
    assert stored_not_finite(content) == ["['a'][1]", "['b']['c']", "['i']"]
    with pytest.raises(FloatingPointError, match=r"x.pt is not written, because \['a'\]\[1\], "):
        require_finite(content, "x.pt")
    require_finite({"a": torch.full((2,), 3e38), "b": torch.zeros(1)}, "x.pt")
