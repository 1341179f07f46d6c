"""What TensorBoard and Weights & Biases are told; neither has to be installed."""

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest

from fastclip.train.log.reporters import make_reporters
from fastclip.train.log.run_log import RunLog
from fastclip.train.log.step_report import StepReport
from fastclip.train.settings.run_config import RunConfig

STEP = StepReport(
    epoch=0, global_step=7, num_seen=896, num_samples=1024, global_batch_size=128, world_size=2,
    data_seconds=0.25, seconds=0.5, learning_rate=1e-3, logit_scale=14.3, loss=2.5, mean_loss=3.0,
    peak_bytes=2**31,
)  # fmt: skip


@pytest.fixture
def wandb(monkeypatch):
    """A module that remembers how it was used."""
    module = ModuleType("wandb")
    module.Error = type("Error", (Exception,), {})
    module.calls = []
    run = SimpleNamespace(
        log=lambda values, step: module.calls.append((step, values)),
        finish=lambda: module.calls.append("finished"),
    )
    module.init = lambda **settings: module.calls.append(settings) or run
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.fixture
def tensorboard(monkeypatch):
    module = ModuleType("torch.utils.tensorboard")
    module.calls = []

    class SummaryWriter:
        def __init__(self, directory):
            module.calls.append(directory)

        def add_scalar(self, name, value, step):
            module.calls.append((name, value, step))

        def close(self):
            module.calls.append("closed")

    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return module


def report(config, tmp_path):
    log = RunLog(tmp_path, make_reporters(config, tmp_path, config.to_dict()))
    log.step(STEP)
    log.epoch({"epoch": 1, "global_step": 8}, {"R@1": 0.5})
    log.epoch({"epoch": 2, "global_step": 16}, {})  # nothing was evaluated
    log.close()


def test_line_of_a_step_is_open_clips_with_the_peak_memory():
    assert str(STEP) == (
        "Train Epoch: 0 [ 896/1024 (88%)] Data (t): 0.250 Batch (t): 0.500, 256.000/s, "
        "128.000/s/gpu LR: 0.001000 Logit Scale: 14.300 Contrastive_loss: 2.5000 (3.0000) "
        "Loss: 2.5000 (3.0000) Peak memory: 2.00 GiB"
    )


def test_weights_and_biases_gets_steps_and_evaluations(wandb, tmp_path):
    report(RunConfig(report_to="wandb", name="mine", wandb_project_name="p"), tmp_path)
    settings, step, evaluation, end = wandb.calls
    assert (settings["project"], settings["name"], settings["id"]) == ("p", "mine", "mine")
    assert settings["resume"] is None and settings["config"]["report_to"] == "wandb"
    assert step == (7, {f"train/{name}": value for name, value in STEP.values().items()})
    assert evaluation == (8, {"val/R@1": 0.5, "epoch": 1}) and end == "finished"


def test_resumed_run_goes_on_in_weights_and_biases(wandb, tmp_path):
    make_reporters(RunConfig(report_to="wandb", name="mine"), tmp_path, {}, is_resumed=True)
    assert wandb.calls[0]["resume"] == "allow"


def test_tensorboard_gets_steps_and_evaluations(tensorboard, tmp_path):
    report(RunConfig(report_to="tensorboard"), tmp_path)
    directory, *steps, evaluation, end = tensorboard.calls
    assert directory == str(tmp_path / "tensorboard")
    assert steps == [(f"train/{name}", value, 7) for name, value in STEP.values().items()]
    assert evaluation == ("val/R@1", 0.5, 1) and end == "closed"


def test_both_at_once(wandb, tensorboard, tmp_path):
    report(RunConfig(report_to="all", name="mine"), tmp_path)
    assert wandb.calls[-1] == "finished" and tensorboard.calls[-1] == "closed"


@pytest.mark.parametrize(
    "name, module", [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")]
)
def test_missing_package_is_named(name, module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=f'pip install "{name}'):
        make_reporters(RunConfig(report_to=name), tmp_path, {})


def test_refusal_of_weights_and_biases_is_one_line(wandb, tmp_path):
    def refuse(**settings):
        raise wandb.Error("no key")

    wandb.init = refuse
    with pytest.raises(RuntimeError, match="--report-to wandb: no key"):
        make_reporters(RunConfig(report_to="wandb"), tmp_path, {})


def test_terms_of_a_loss_are_said_and_reported_by_their_names():
    terms, means = {"contrastive_loss": 2.0, "distill_loss": 0.5}, {"contrastive_loss": 2.25}
    step = replace(STEP, terms=terms, mean_terms=means)
    told = "Contrastive_loss: 2.0000 (2.2500) Distill_loss: 0.50000 (nan) Loss: 2.5000 (3.0000) "
    assert told in str(step)
    assert step.values() == STEP.values() | terms
    assert "Contrastive_loss: 2.5000 (3.0000) Loss: 2.5000 (3.0000) Peak" in str(STEP)
    assert STEP.values()["contrastive_loss"] == 2.5
