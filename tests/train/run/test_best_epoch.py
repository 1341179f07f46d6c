"""Which epoch is the best, under which name its checkpoint stays, and which others stay."""

from types import SimpleNamespace

import pytest

from fastclip.train.checkpoints.file import read_checkpoint
from fastclip.train.checkpoints.run_checkpoints import Progress, RunCheckpoints
from fastclip.train.checkpoints.store import CheckpointStore
from fastclip.train.log.run_log import RunLog
from fastclip.train.run.best_epoch import EVALUATED_ON, BestEpoch
from fastclip.train.settings.run_config import RunConfig

TASK = SimpleNamespace(name="shapes")
PAIRS = [("table", "10 bytes")]


def data(has_pairs=True, tasks=()):
    return SimpleNamespace(validation=object() if has_pairs else None, tasks=list(tasks))


class Checkpoints:
    """Those of a run, in a directory, without a run."""

    def __init__(self, directory, log):
        self.store = CheckpointStore(directory / "checkpoints", 9, log.warn)
        self.state = SimpleNamespace(average=None)

    name_best = RunCheckpoints.name_best


class Epochs:
    """A run of which there is nothing but its epochs."""

    def __init__(self, directory, contents=PAIRS, **settings):
        self.log = RunLog(directory)
        self.checkpoints = Checkpoints(directory, self.log)
        config = RunConfig(**settings)
        self.best = BestEpoch(config, data(), self.checkpoints, self.log, {"--val-data": contents})
        self.folder = directory / "checkpoints"

    def end(self, epoch, recall, is_killed=False, **others):
        names = [f"epoch_{epoch}.pt"]
        self.checkpoints.store.save({"epoch": epoch, "names": names}, 10 * epoch, names)
        metrics = {"image_to_text_R@1": recall, "text_to_image_R@1": recall + 0.2}
        metrics |= others
        self.best.take(Progress(epoch, 10 * epoch), metrics)
        if not is_killed:
            row = {"epoch": epoch, "global_step": 10 * epoch, EVALUATED_ON: self.best.marks}
            self.log.epoch(row, metrics)

    def of_best(self):
        return read_checkpoint(self.folder / "epoch_best.pt")["epoch"]

    def names(self):
        return sorted(p.name for p in self.folder.iterdir() if p.name.startswith("epoch"))


@pytest.fixture
def run(tmp_path):
    runs = []

    def make(**settings):
        for made in runs:  # a new process has the run
            made.log.close()
        runs.append(Epochs(tmp_path, **settings))
        return runs[-1]

    yield make
    runs[-1].log.close()


def test_best_is_the_first_of_the_highest(run, tmp_path):
    epochs = run()
    found = []
    for epoch, recall in enumerate([0.2, 0.4, 0.4, 0.1], 1):
        epochs.end(epoch, recall)
        found.append(epochs.of_best())
    assert found == [1, 2, 2, 2]
    assert (
        "by image_to_text_R@1 and text_to_image_R@1 (0.5000)" in (tmp_path / "out.log").read_text()
    )


def test_a_number_of_newest_epochs_stays_and_the_best_does(run):
    epochs = run(keep_checkpoints=2)
    foreign = epochs.folder / "epoch_9.pt"
    foreign.write_bytes(b"of a later epoch")
    for epoch, recall in enumerate([0.9, 0.4, 0.3, 0.1], 1):
        epochs.end(epoch, recall)
    assert epochs.names() == ["epoch_3.pt", "epoch_4.pt", "epoch_9.pt", "epoch_best.pt"]
    assert epochs.of_best() == 1


def test_a_run_that_was_killed_finds_its_best_again(run):
    epochs = run()
    epochs.end(1, 0.3)
    epochs.end(2, 0.9, is_killed=True)  # between the name and the line of results
    assert epochs.of_best() == 2
    again = run()
    again.end(2, 0.9)
    assert again.of_best() == 2
    (again.folder / "epoch_best.pt").unlink()
    again.best.restore()
    assert again.of_best() == 2


def test_best_of_a_later_epoch_is_set_aside_and_the_one_before_is_named(run):
    epochs = run()
    for epoch, recall in enumerate([0.3, 0.9], 1):
        epochs.end(epoch, recall)
    again = run()
    again.checkpoints.store.set_aside(step=10, epoch=1)
    again.log.keep_epochs(1)
    again.best.restore()
    assert again.of_best() == 1 and (again.folder / "set_aside_1" / "epoch_best.pt").exists()


def aside(epochs):
    return [str(path.relative_to(epochs.folder)) for path in epochs.folder.glob("set*/*")]


@pytest.mark.parametrize("keep, best", [(None, 1), (1, None)])
def test_another_metric_names_another_epoch_or_none(keep, best, run, tmp_path):
    epochs = run(keep_checkpoints=keep)
    for epoch, (recall, further) in enumerate([(0.1, 0.9), (0.5, 0.2), (0.2, 0.1)], 1):
        epochs.end(epoch, recall, **{"image_to_text_R@5": further})
    if keep:  # of epoch 1 nothing is left
        (epochs.folder / "step_000000010.pt").unlink()
    again = run(best_metric="image_to_text_R@5", keep_checkpoints=keep)
    again.best.restore()
    if best is not None:
        assert again.of_best() == best and not aside(again)
        return
    assert aside(again) == ["set_aside_1/epoch_best.pt"]
    assert "epoch_best.pt" not in again.names()
    said = (tmp_path / "out.log").read_text()
    assert (
        "epoch 1 has been the best so far by image_to_text_R@5, but its checkpoint is gone" in said
    )
    assert "epoch_best.pt is of epoch 2, which is not the best by image_to_text_R@5" in said


def test_scores_on_other_data_do_not_count(run, tmp_path):
    epochs = run()
    epochs.end(1, 0.9)
    again = run(contents=[("table", "99 bytes")])
    again.best.restore()
    assert aside(again) == ["set_aside_1/epoch_best.pt"]
    assert (
        "of results.jsonl that do not count for epoch_best.pt: 1;"
        in (tmp_path / "out.log").read_text()
    )
    again.end(2, 0.3)
    assert again.of_best() == 2  # less than on the other data


def test_the_same_data_leaves_the_best_alone(run):
    run().end(1, 0.9)
    again = run()
    before = (again.folder / "epoch_best.pt").stat().st_ino
    again.best.restore()
    again.end(2, 0.3, is_killed=True)
    assert again.of_best() == 1 and (again.folder / "epoch_best.pt").stat().st_ino == before


def test_an_epoch_whose_line_is_owed_keeps_its_name(run):
    epochs = run(keep_checkpoints=1)
    epochs.end(1, 0.3)
    epochs.end(2, 0.9, is_killed=True)
    (epochs.folder / "step_000000010.pt").unlink()
    again = run(keep_checkpoints=1)
    again.best.restore()
    assert again.of_best() == 2 and not aside(again)


@pytest.mark.parametrize(
    "asked, has_pairs, tasks, expected",
    [
        (None, True, [TASK], ("image_to_text_R@1", "text_to_image_R@1")),
        (None, False, [TASK], ("shapes-top1",)),
        (None, False, [], ()),
        ("text_to_image_R@5", True, [], ("text_to_image_R@5",)),
        ("shapes-top5", True, [TASK], ("shapes-top5",)),
    ],
)
def test_metric(asked, has_pairs, tasks, expected):
    config = RunConfig(best_metric=asked)
    assert BestEpoch(config, data(has_pairs, tasks), None, None, {}).metrics == expected


@pytest.mark.parametrize(
    "has_pairs, words",
    [
        (True, "one of image_to_text_R@1, .*got 'clip_val_loss'"),
        (False, "left out if nothing is evaluated, got 'clip_val_loss'"),
    ],
)
def test_metric_that_is_none_is_refused(has_pairs, words):
    with pytest.raises(ValueError, match=f"best_metric must be {words}"):
        BestEpoch(RunConfig(best_metric="clip_val_loss"), data(has_pairs), None, None, {})
