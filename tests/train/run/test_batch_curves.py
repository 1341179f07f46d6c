"""Curves of the loss against the batch size in the log, the results and a picture of a run."""

import json
import math
import sys

import pytest
import torch
from PIL import Image
from torch import nn

import fastclip
from fastclip.batch_curve import clip_batch_curve
from fastclip.cli import main
from fastclip.distributed.processes import Processes
from fastclip.train.log.curve_figure import curve_figure, sentence
from fastclip.train.log.reporters import Reporter
from fastclip.train.log.run_log import RunLog
from fastclip.train.run.batch_curves import FIGURE, BatchCurves
from fastclip.train.settings.run_config import RunConfig
from tests.support.runs import arguments, assert_same_run, final

BATCH, STEPS = 96, 4  # of an epoch
SHORT = {
    "train_num_samples": BATCH * STEPS, "epochs": 1, "global_batch_size": BATCH,
    "save_every_steps": 100, "activation_budget": "unlimited",
}  # fmt: skip


class Numbers(Reporter):
    """Remembers what it is told of steps."""

    def __init__(self):
        self.told = []

    def step(self, values, step):
        self.told.append((step, dict(values)))

    def evaluation(self, values, epoch, step):
        pass

    def close(self):
        pass


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the same steps, with curves and without."""
    logs = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastclip.commands.train.say_what_it_takes", lambda *args: None)
        assert main(arguments(logs, "with", **SHORT, batch_curve_every=2)) == 0
        assert main(arguments(logs, "without", **SHORT)) == 0
    return logs


def results(directory):
    return [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]


def test_curves_are_in_the_log_the_results_and_a_picture(runs):
    log = (runs / "with" / "out.log").read_text()
    assert [f"batch curve of step {n}, loss by batch size: " in log for n in range(1, 5)] == [
        False, True, False, True,
    ]  # fmt: skip
    (line,) = results(runs / "with")
    curve = line["batch_curve"]
    assert curve["global_step"] == STEPS
    assert curve["batch_sizes"] == [2, 4, 8, 16, 32, 64, BATCH]
    assert curve["pairs_used"] == [96, 96, 96, 96, 96, 64, 96]
    assert curve["losses"] == sorted(curve["losses"])
    assert "left out, as they fill no batch: 32 pairs at 64" in log
    # The last point is the loss of the step itself.
    step = [text for text in log.splitlines() if "Train Epoch" in text][-1]
    loss = float(step.split(" Loss: ")[1].split()[0])
    assert loss == pytest.approx(curve["losses"][-1], rel=1e-4)
    with Image.open(runs / "with" / FIGURE) as image:
        assert image.format == "PNG" and image.width > 500


def test_curves_change_nothing_of_the_run(runs):
    assert_same_run(final(runs, "with"), final(runs, "without"))
    assert not (runs / "without" / FIGURE).exists()
    assert "batch_curve" not in results(runs / "without")[0]


def curves_of(directory, loss, log=None, **settings):
    processes = Processes("cpu")
    config = RunConfig(batch_curve_every=3, **settings)
    return BatchCurves(config, loss, processes, directory, log or RunLog(None))


def features(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(2, size, 8, generator=generator, dtype=torch.float64)
    return nn.functional.normalize(found, dim=-1)


def test_numbers_are_reported_under_the_size_of_the_batch(tmp_path):
    numbers = Numbers()
    log = RunLog(tmp_path, [numbers])
    loss = fastclip.ClipLoss()
    curves = curves_of(tmp_path, loss, log)
    assert curves.newest() == {}
    for step in range(1, 7):
        with curves.of_step(step):
            loss(*features(12, step), torch.tensor(9.0))
    log.close()
    assert [step for step, _ in numbers.told] == [3, 6]
    truth = clip_batch_curve(*features(12, 6), 9.0)
    names = [f"batch_curve/{size}" for size in (2, 4, 8, 12)]
    assert numbers.told[1][1] == dict(zip(names, truth.losses.tolist(), strict=True))
    assert curves.newest()["batch_curve"]["losses"] == truth.losses.tolist()


def test_without_matplotlib_curves_are_logged_and_it_is_said_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    log, loss = RunLog(tmp_path), fastclip.ClipLoss()
    curves = curves_of(tmp_path, loss, log)
    for step in (3, 6):
        with curves.of_step(step):
            loss(*features(12), torch.tensor(9.0))
    log.close()
    text = (tmp_path / "out.log").read_text()
    assert text.count("loss by batch size") == 2
    assert text.count("batch curves are logged but not drawn: The figure needs matplotlib") == 1
    assert not (tmp_path / FIGURE).exists()


def test_a_picture_that_cannot_be_written_does_not_end_the_run(tmp_path):
    (tmp_path / FIGURE).mkdir()
    log, loss = RunLog(tmp_path), fastclip.ClipLoss()
    with curves_of(tmp_path, loss, log).of_step(3):
        loss(*features(12), torch.tensor(9.0))
    log.close()
    text = (tmp_path / "out.log").read_text()
    assert "the batch curve of step 3 is logged but not drawn" in text and FIGURE in text


def test_a_loss_that_is_not_finite_has_no_curve(tmp_path):
    log, loss = RunLog(tmp_path), fastclip.ClipLoss()
    curves = curves_of(tmp_path, loss, log)
    images, texts = features(12)
    images[3] = math.nan
    with curves.of_step(3):
        loss(images, texts, torch.tensor(9.0))
    log.close()
    assert (
        "no batch curve of step 3, as its loss is not finite" in (tmp_path / "out.log").read_text()
    )
    assert curves.newest() == {}


def test_a_step_that_fails_leaves_no_hook(tmp_path):
    loss = fastclip.ClipLoss()
    curves = curves_of(tmp_path, loss)
    with pytest.raises(FloatingPointError), curves.of_step(3):
        raise FloatingPointError
    assert not loss._forward_pre_hooks and curves.newest() == {}


def test_the_sentence_says_the_points_the_last_rise_and_what_is_left_out():
    curve = clip_batch_curve(*features(12), 9.0)
    text = sentence(400, curve)
    assert text.startswith("batch curve of step 400, loss by batch size: ")
    rise = curve.losses[2] - curve.losses[1]  # of the last doubling
    assert f"from 4 to 8 pairs it {'rises' if rise >= 0 else 'falls'} by {abs(rise):.2g}" in text
    assert text.endswith("; left out, as they fill no batch: 4 pairs at 8")


def test_a_figure_of_one_point_and_of_many_curves(tmp_path):
    one = clip_batch_curve(*features(1), 9.0)
    curve_figure(tmp_path / "one.png", {1: one})
    many = {step: clip_batch_curve(*features(12, step), 9.0) for step in range(10, 200, 10)}
    curve_figure(tmp_path / "many.png", many)
    assert (tmp_path / "many.png").stat().st_size > (tmp_path / "one.png").stat().st_size
