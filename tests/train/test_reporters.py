"""What TensorBoard and Weights & Biases are told; neither has to be installed."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from fastclip.train.reporters import make_reporters
from fastclip.train.run_config import RunConfig
from fastclip.train.run_log import RunLog


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
    log = RunLog(tmp_path, make_reporters(config, tmp_path))
    log.step({"loss": 2.5}, 7)
    log.epoch({"epoch": 1, "global_step": 8}, {"R@1": 0.5})
    log.epoch({"epoch": 2, "global_step": 16}, {})  # nothing was evaluated
    log.close()


def test_weights_and_biases_gets_steps_and_evaluations(wandb, tmp_path):
    report(RunConfig(report_to="wandb", name="mine", wandb_project_name="p"), tmp_path)
    settings, step, evaluation, end = wandb.calls
    assert (settings["project"], settings["name"], settings["id"]) == ("p", "mine", "mine")
    assert settings["resume"] is None and settings["config"]["report_to"] == "wandb"
    assert step == (7, {"train/loss": 2.5})
    assert evaluation == (8, {"val/R@1": 0.5, "epoch": 1}) and end == "finished"


def test_resumed_run_goes_on_in_weights_and_biases(wandb, tmp_path):
    make_reporters(RunConfig(report_to="wandb", name="mine", resume="latest"), tmp_path)
    assert wandb.calls[0]["resume"] == "allow"


def test_tensorboard_gets_steps_and_evaluations(tensorboard, tmp_path):
    report(RunConfig(report_to="tensorboard"), tmp_path)
    assert tensorboard.calls == [
        str(tmp_path / "tensorboard"), ("train/loss", 2.5, 7), ("val/R@1", 0.5, 1), "closed"
    ]  # fmt: skip


def test_both_at_once(wandb, tensorboard, tmp_path):
    report(RunConfig(report_to="all", name="mine"), tmp_path)
    assert len(wandb.calls) == len(tensorboard.calls) == 4


@pytest.mark.parametrize(
    "name, module", [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")]
)
def test_missing_package_is_named(name, module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=f"pip install {name}"):
        make_reporters(RunConfig(report_to=name), tmp_path)


def test_refusal_of_weights_and_biases_is_one_line(wandb, tmp_path):
    def refuse(**settings):
        raise wandb.Error("no key")

    wandb.init = refuse
    with pytest.raises(RuntimeError, match="--report-to wandb: no key"):
        make_reporters(RunConfig(report_to="wandb"), tmp_path)
