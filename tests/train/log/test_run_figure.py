"""What is drawn of a run, and the numbers of steps that results.jsonl has for it."""

import json
import math

import pytest

from fastclip.cli import main
from fastclip.train.log.epoch_numbers import EpochNumbers
from fastclip.train.log.loss_means import LossMeans
from fastclip.train.log.results_file import read_rows
from fastclip.train.log.run_figure import _limits, panels_of
from fastclip.train.log.step_progress import Pace, StepProgress
from fastclip.train.log.step_report import StepReport
from fastclip.train.log.train_curve import MOST_POINTS, TrainCurve

CURVE = {"step": [1, 2], "loss": [3.0, None], "lr": [0.1, 0.2], "logit_scale": [14.0, 15.0]}
ROWS = [
    {"epoch": 1, "global_step": 2, "train_curve": CURVE, "image_to_text_R@1": 0.5},
    {"epoch": 2, "global_step": 4, "train_loss": 2.0, "clip_val_loss": 2.5, "cats-top1": 0.7,
     "batch_curve": {"global_step": 4, "batch_sizes": [2, 4], "losses": [0.1, 0.3]}},
]  # fmt: skip


def report(step=1, loss=2.0, rate=1e-3, **further):
    return StepReport(
        epoch=0, global_step=step, num_seen=1, num_samples=2, global_batch_size=1, world_size=1,
        data_seconds=0.1, seconds=1.0, learning_rate=rate, logit_scale=14.0, loss=loss,
        mean_loss=loss, peak_bytes=0, **further,
    )  # fmt: skip


def test_panels_have_what_there_is():
    panels = {panel.title: panel for panel in panels_of(ROWS)}
    assert list(panels) == [
        "Loss", "Learning rate", "Logit scale", "Recall of retrieval", "Zero-shot accuracy",
        "Loss by batch size at step 4",
    ]  # fmt: skip
    assert panels["Loss"].lines[0].points == [(1, 3.0)]  # no number for a loss that is not finite
    assert panels["Loss"].lines[1] == ("validation", [(4, 2.5)])
    assert [line.name for line in panels["Recall of retrieval"].lines] == ["image to text R@1"]
    assert panels["Loss by batch size at step 4"].lines[1].points == [
        (2, math.log(2)), (4, math.log(4)),
    ]  # fmt: skip


def test_runs_of_earlier_versions_have_fewer_panels():
    old = {"epoch": 1, "global_step": 2, "clip_val_loss": 3.0}
    assert [panel.title for panel in panels_of([old])] == ["Loss"]


def test_negative_losses_are_on_the_axis_and_nan_is_no_point():
    rows = [{"epoch": i, "global_step": i, "train_loss": y} for i, y in enumerate([1.0, math.nan])]
    rows.append({"epoch": 2, "global_step": 2, "train_loss": -2.0, "clip_val_loss": math.nan})
    (loss,) = panels_of(rows)
    assert loss.lines == [("training", [(0, 1.0), (2, -2.0)])]
    low, high = _limits([1.0, -2.0])
    assert low < -2 and high > 1
    assert _limits([2.0])[0] == 0 and _limits([-2.0])[1] == 0 and _limits([0.0]) == (0, 1)


def test_command_draws_a_run_that_is_going_on(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    text = "".join(json.dumps(row) + "\n" for row in ROWS) + '{"epoch": 3, "glob'
    (tmp_path / "results.jsonl").write_text(text)
    assert main(["plot", str(tmp_path)]) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "Learning rate" in capsys.readouterr().out
    assert (tmp_path / "results.jsonl").read_text() == text and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "content, flags, words",
    [
        (None, [], "is not the folder of a run"),
        ("", [], "no numbers to draw"),
        ('{"epoch": 1, "global_step": 2}\n', ["--output", "none/x.png"], "there is no folder none"),
    ],
)
def test_command_says_what_it_cannot_draw(content, flags, words, tmp_path, capsys):
    if content is not None:
        (tmp_path / "results.jsonl").write_text(content)
    assert main(["plot", str(tmp_path), *flags]) == 2
    assert words in capsys.readouterr().err


def test_rows_are_read_and_not_changed(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"epoch": 1}\nnonsense\n{"epoch": 2}\n{"epoch": 3')
    assert [row["epoch"] for row in read_rows(path)] == [1, 2]
    assert read_rows(tmp_path / "none") == []


def test_a_long_epoch_is_thinned_evenly():
    curve = TrainCurve()
    assert curve.of_epoch() == {}
    for step in range(1, 4001):
        curve.take(report(step, loss=float(step)))
    found = curve.of_epoch()["train_curve"]
    assert found["step"] == list(range(1, 4001, 4)) and len(found["step"]) <= MOST_POINTS
    assert found["loss"] == [float(step) for step in found["step"]]


def test_losses_that_are_not_finite_are_valid_json():
    curve, means = TrainCurve(), LossMeans()
    curve.take(report(1, math.nan))
    means.take(math.nan, {})
    assert json.loads(json.dumps(curve.of_epoch(), allow_nan=False))
    assert means.of_epoch() == {}
    means.take(2.0, {"a": 0.5})
    assert means.of_epoch() == {"train_loss": 2.0, "train_losses": {"a": 0.5}}


@pytest.mark.parametrize(
    "rate, shown",
    [(5e-4, "0.000500"), (1e-7, "1.00e-07"), (9.994e-5, "9.99e-05"), (0.0, "0.000000")],
)
def test_small_rates_keep_their_digits(rate, shown):
    assert f"LR: {shown} Logit" in str(report(rate=rate))


def test_time_that_is_left_is_said():
    pace = Pace()
    assert pace.seconds_of(3) is None and "ETA" not in str(report())
    pace.take(1.0)
    pace.take(3.0)
    assert str(report(seconds_left=pace.seconds_of(2000))).endswith(" ETA: 1:06:40")


def test_a_long_step_says_how_far_it_is():
    said, clock = [], [0.0]
    progress = StepProgress(said.append, 3, lambda: 1, silence=60, now=lambda: clock[0])

    def after(seconds):
        clock[0] += seconds

    progress.begin(7)
    for _ in progress.reading("abc"):
        after(40)
    assert said == ["step 7: 3 of 3 micro-batches are read after 80 s"]
    for _ in range(5):
        progress.encoded()
        after(40)
    assert said[1:] == [
        "step 7: the model is encoding micro-batch 2 of 3 after 160 s",
        "step 7: the model is encoding micro-batch 1 of 2 a second time after 240 s",
    ]
    progress.begin(8)
    progress.encoded()
    assert len(said) == 3


def test_numbers_of_an_epoch_go_on_from_a_checkpoint():
    whole, part = EpochNumbers(), EpochNumbers()
    for step in range(1, 1500):
        if step == 1200:
            stored, part = json.loads(json.dumps(part.state_dict())), EpochNumbers()
            part.load_state_dict(stored)
        for numbers in (whole, part):
            numbers.means.take(0.1 * step, {"a": 0.2, "b": step})
            numbers.curve.take(report(step, 0.1 * step))
    assert part.of_epoch() == whole.of_epoch()
    part.begin()
    assert part.of_epoch() == {}


def test_the_rest_of_an_epoch_has_no_mean():
    rest, further = EpochNumbers(), EpochNumbers()
    rest.begin_within()
    rest.means.take(2.0, {})
    rest.curve.take(report(2, 2.0))
    assert list(rest.of_epoch()) == ["train_curve"]
    further.load_state_dict(json.loads(json.dumps(rest.state_dict())))
    assert "train_loss" not in further.of_epoch()
    further.begin()
    further.means.take(2.0, {})
    assert further.of_epoch() == {"train_loss": 2.0}
