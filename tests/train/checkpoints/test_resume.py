"""`--resume`: what a run goes on from, what it refuses, and what becomes of the other files.

The checkpoints are those of a layer that a step adds 1 to, whose runs take no time; what a run of
the command line does is at the end.
"""

import errno
import json
import os
import shutil

import pytest
import torch

from fastclip.cli import main
from fastclip.distributed.processes import Processes
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.models.open_clip_config import to_json
from fastclip.train.checkpoints import file as checkpoint_file
from fastclip.train.checkpoints.run_checkpoints import Progress, RunCheckpoints
from fastclip.train.checkpoints.same_run import OwnRun
from fastclip.train.checkpoints.store import CheckpointStore
from fastclip.train.checkpoints.trained_state import TrainedState
from fastclip.train.log.run_log import RunLog
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.weights.placement import make_average
from tests.support.runs import arguments, assert_same_run, final
from tests.train.checkpoints.test_same_run import MOMENTS

EPOCHS, STEPS_OF_EPOCH = 3, 2
CONFIG = ClipConfig(
    8, VisionConfig((4, 4), patch_size=2, width=8, layers=1, head_width=4, channels=1),
    TextConfig(4, 10, width=8, heads=2, layers=1),
)  # fmt: skip


class Killed(BaseException):
    """Ends a run at once, as kill -9 does: nothing of it catches this."""


class Layer(torch.nn.Linear):
    config = CONFIG


class Place:
    """Of a loader, or of a step: nothing that would have to be restored."""

    def state_dict(self):
        return {}

    def load_state_dict(self, content):
        assert content == {}


class TinyRun:
    """What `Run` does about checkpoints and results, around steps of nothing."""

    def __init__(self, directory, keep_last=10):
        directory.mkdir(parents=True, exist_ok=True)
        config = RunConfig(
            name=directory.name,
            batch_size=2,
            epochs=EPOCHS,
            warmup=0,
            ema_decay=0.5,
            keep_last=keep_last,
        )
        training = config.training(STEPS_OF_EPOCH, 1, MOMENTS)
        own = OwnRun(config, training, MOMENTS, STEPS_OF_EPOCH, 1, to_json(CONFIG), {})
        self.layer = Layer(1, 1)
        optimizer = torch.optim.AdamW(self.layer.parameters())
        average = make_average(self.layer, 0.5, False)
        state = TrainedState(self.layer, optimizer, average=average)
        self.log = RunLog(directory)
        self.checkpoints = RunCheckpoints(
            own, Processes("cpu"), directory, self.log, state, Place(), Place()
        )
        with torch.no_grad():
            self.layer.weight.zero_()

    def train(self, resume, last_step=EPOCHS * STEPS_OF_EPOCH):
        """Returns where it went on."""
        try:
            epoch, done = start = self.checkpoints.restore(str(resume))
            assert self.layer.weight.item() == done
            if done == epoch * STEPS_OF_EPOCH and epoch and not self.log.has_epoch(epoch):
                self.log.epoch({"epoch": epoch, "global_step": done}, {})
            for step in range(done + 1, last_step + 1):
                with torch.no_grad():
                    self.layer.weight += 1
                self.checkpoints.keep_place()
                if step % STEPS_OF_EPOCH == 0:
                    epoch += 1
                    names = [f"epoch_{epoch}.pt", "epoch_latest.pt"]
                    self.checkpoints.save(Progress(epoch, step), names)
                    self.log.epoch({"epoch": epoch, "global_step": step}, {})
                else:
                    self.checkpoints.save(Progress(epoch, step))
        finally:
            self.log.close()
        return start


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory of a run that nothing disturbed, with a file for each of its steps."""
    directory = tmp_path_factory.mktemp("whole")
    TinyRun(directory).train("latest")
    return directory


@pytest.fixture
def directory(whole, tmp_path):
    """A copy of it."""
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def train(directory, resume="latest", keep_last=10, **further):
    return TinyRun(directory, keep_last).train(resume, **further)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def files(directory):
    return names(directory / "checkpoints")


def said(directory):
    return (directory / "out.log").read_text()


def epochs_of(path):
    return [json.loads(line)["epoch"] for line in path.read_text().splitlines()]


def damage_all(directory):
    for path in (directory / "checkpoints").iterdir():
        content = path.read_bytes()
        path.unlink()  # other names of the file are damaged on their own
        path.write_bytes(content[:-7])


def assert_complete(directory):
    """Every epoch has its files, with its own content, and its line."""
    assert epochs_of(directory / "results.jsonl") == [1, 2, 3]
    for name, epoch in {"1": 1, "2": 2, "3": 3, "latest": 3}.items():
        for kind in ("", "_ema"):
            path = directory / "checkpoints" / f"epoch_{name}{kind}.pt"
            content = torch.load(path, weights_only=True)
            assert content["epoch"] == epoch
        weight = torch.load(directory / "checkpoints" / f"epoch_{name}.pt", weights_only=True)
        assert weight["state_dict"]["weight"].item() == epoch * STEPS_OF_EPOCH


@pytest.mark.parametrize("num_made", range(4))
def test_names_of_an_epoch_that_a_kill_took_are_made_at_the_next_start(
    num_made, tmp_path, monkeypatch
):
    """Killed before any of epoch_K.pt, epoch_latest.pt and their averages, at every epoch."""
    act = {"name": CheckpointStore.name, "write": CheckpointStore.write}
    made = []

    def dying(kind):
        def make(store, *args):
            of = args[0] if kind == "write" else args[1]
            if of.startswith("epoch"):
                if len(made) == num_made:
                    raise Killed
                made.append(of)
            return act[kind](store, *args)

        return make

    for _ in range(EPOCHS):
        made.clear()
        with monkeypatch.context() as patch:
            run = TinyRun(tmp_path)
            restore = run.checkpoints.restore

            def restore_and_arm(path, patch=patch, restore=restore):
                try:
                    return restore(path)
                finally:
                    for kind in act:
                        patch.setattr(CheckpointStore, kind, dying(kind))

            run.checkpoints.restore = restore_and_arm
            with pytest.raises(Killed):
                run.train("latest")
    train(tmp_path)
    assert_complete(tmp_path)


def test_resumed_in_the_past_a_run_sets_later_files_aside_and_keeps_what_it_saves(directory):
    path = directory / "checkpoints" / "epoch_1.pt"
    assert train(directory, path, keep_last=1, last_step=3) == (1, 2)
    assert files(directory) == [
        "epoch_1.pt", "epoch_1_ema.pt", "epoch_latest.pt", "epoch_latest_ema.pt", "set_aside_1",
        "step_000000003.pt",
    ]  # fmt: skip
    aside = ["epoch_2.pt", "epoch_2_ema.pt", "epoch_3.pt", "epoch_3_ema.pt", "epoch_latest.pt",
             "epoch_latest_ema.pt", *[f"step_{step:09d}.pt" for step in range(3, 7)]]  # fmt: skip
    assert names(directory / "checkpoints" / "set_aside_1") == aside
    assert "10 checkpoint files after step 2 are set aside in" in said(directory)
    assert epochs_of(directory / "results.jsonl") == [1]
    assert epochs_of(directory / "results_set_aside.jsonl") == [2, 3]
    assert train(directory) == (1, 3)
    assert_complete(directory)


def test_checkpoint_of_another_run_sets_all_files_of_this_one_aside(directory, whole):
    before = files(directory)
    assert train(directory, whole / "checkpoints" / "epoch_2.pt") == (2, 4)
    assert names(directory / "checkpoints" / "set_aside_1") == before
    assert f"{len(before)} checkpoint files of another run are set aside" in said(directory)
    assert epochs_of(directory / "results.jsonl") == [2, 3]  # the first is measured anew
    assert files(directory) == [
        "epoch_3.pt", "epoch_3_ema.pt", "epoch_latest.pt", "epoch_latest_ema.pt", "set_aside_1",
        "step_000000005.pt", "step_000000006.pt",
    ]  # fmt: skip


def test_newer_files_that_are_passed_over_do_not_count_among_the_last(directory):
    for step in (5, 6):
        (directory / "checkpoints" / f"step_{step:09d}.pt").write_bytes(b"damaged")
    assert train(directory, keep_last=2) == (2, 4)
    assert files(directory)[-3:] == ["set_aside_1", "step_000000005.pt", "step_000000006.pt"]
    assert_complete(directory)


def test_latest_does_not_start_afresh_where_checkpoints_are_damaged(directory, capsys):
    damage_all(directory)
    before = files(directory)
    with pytest.raises(
        ValueError, match=f"none of the {len(before)} checkpoint files .*allow-fresh"
    ):
        train(directory)
    assert said(directory).count(" is skipped: it is not a whole file") == 6 + EPOCHS + 1
    assert files(directory) == before
    assert train(directory, "allow-fresh") == (0, 0)
    assert "the run starts afresh, as --resume allow-fresh says" in said(directory)
    assert names(directory / "checkpoints" / "set_aside_1") == before
    assert epochs_of(directory / "results_set_aside.jsonl") == [1, 2, 3]
    assert_complete(directory)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
@pytest.mark.parametrize("what", ["files", "directory"])
def test_latest_does_not_start_afresh_where_the_storage_refuses_for_a_moment(
    what, number, directory, monkeypatch
):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if what == "files":
            patch.setattr(checkpoint_file, "open", refuse, raising=False)
        run = TinyRun(directory)
        if what == "directory":
            patch.setattr("fastclip.train.checkpoints.store.Path.iterdir", refuse)
        with pytest.raises((ValueError, OSError)) as raised:
            run.train("latest")
    assert os.strerror(number) in said(directory) + str(raised.value)
    assert str(directory / "checkpoints") in str(raised.value)
    assert train(directory) == (3, 6)
    assert_complete(directory)


@pytest.mark.parametrize("resume", ["latest", "allow-fresh"])
def test_a_run_starts_where_nothing_was(resume, tmp_path):
    assert train(tmp_path, resume) == (0, 0)
    assert "nothing to resume, and the run starts" in said(tmp_path)
    assert_complete(tmp_path)


def test_allow_fresh_is_latest_where_a_checkpoint_is_whole(directory):
    (directory / "checkpoints" / "step_000000006.pt").write_bytes(b"")
    assert train(directory, "allow-fresh") == (2, 5)
    assert_complete(directory)


def test_results_without_checkpoints_are_of_a_run_that_was(directory):
    shutil.rmtree(directory / "checkpoints")
    with pytest.raises(ValueError, match=r"has no checkpoint, though results\.jsonl has epochs"):
        train(directory)
    assert train(directory, "allow-fresh") == (0, 0)
    assert_complete(directory)


def test_epoch_latest_alone_is_resumed(directory):
    for path in (directory / "checkpoints").iterdir():
        if path.name != "epoch_latest.pt":
            path.unlink()
    assert train(directory) == (3, 6)
    assert "epoch_3.pt" in files(directory)  # its name was owed


def test_names_in_a_file_lead_nowhere_else(directory, tmp_path):
    path = directory / "checkpoints" / "step_000000006.pt"
    content = torch.load(path, weights_only=True)
    names = ["../epoch_1.pt", str(tmp_path / "x.pt"), 7, "out.log", "epoch_3.pt"]
    CheckpointStore(path.parent).write(path.name, content | {"names": names})
    before = said(directory)
    assert train(directory) == (3, 6)
    assert said(directory).startswith(before) and os.listdir(tmp_path) == ["run"]
    assert not (directory / "epoch_1.pt").exists()


def test_file_without_a_digest_or_names_of_an_earlier_version_is_resumed(directory):
    path = directory / "checkpoints" / "step_000000006.pt"
    content = torch.load(path, weights_only=True)
    del content["names"]
    path.unlink()
    torch.save(content, path)
    assert train(directory) == (3, 6)
    assert_complete(directory)


def test_path_of_a_changed_file_or_of_a_strangers_is_refused_in_one_sentence(directory, tmp_path):
    path = directory / "checkpoints" / "epoch_2.pt"
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / "changed.pt").write_bytes(changed)
    content = torch.load(path, weights_only=True)
    torch.save({"ranks": [1]}, tmp_path / "ranks.pt")
    torch.save(content | {"ranks": [1]}, tmp_path / "no place.pt")
    torch.save(content | {"optimizer": {}}, tmp_path / "no moments.pt")
    torch.save([1], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("hello\n")
    for name, reason in {
        "changed": "it is damaged: its bytes do not match the digest",
        "ranks": "it is not a checkpoint of `fastclip train` (",
        "no place": "it does not have the place of every rank",
        "no moments": "does not fit this run (KeyError: 'param_groups')",
        "list": "it holds a list",
        "text": "it is not a whole file",
    }.items():
        before = files(directory)
        with pytest.raises(ValueError) as raised:
            train(directory, tmp_path / f"{name}.pt")
        text = str(raised.value)
        assert reason in text and f"{name}.pt" in text
        assert "weights_only" not in text and "\n" not in text
        assert files(directory) == before


def test_storage_without_second_names_and_flushed_directories_is_told_of_once(
    tmp_path, monkeypatch
):
    link, fsync = os.link, os.fsync

    def refuse(*args):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def flush(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "fsync", flush)
    train(tmp_path)
    assert_complete(tmp_path)
    assert said(tmp_path).count("cannot give a file a second name (Operation not permitted)") == 1
    assert said(tmp_path).count("cannot flush a directory (Invalid argument)") == 1
    assert link is not os.link and fsync is not os.fsync


def test_name_that_the_locale_cannot_read_is_that_of_the_files(tmp_path, capsys):
    """Under LC_ALL=C without UTF-8 mode a name comes as bytes in disguise, and goes as bytes."""
    directory = tmp_path / "\u540d".encode().decode("ascii", "surrogateescape")
    run = TinyRun(directory)
    run.log.parameters({"name": directory.name})
    run.train("latest")
    assert train(directory) == (3, 6)
    for name in ("params.txt", "out.log"):  # UTF-8, whatever is in them
        assert (directory / name).read_text(encoding="utf-8")
    assert "resumed from" in said(directory) and "lack lines" not in capsys.readouterr().err
    assert CheckpointStore(directory / "checkpoints").newest().content["name"] == directory.name


@pytest.mark.slow
def test_run_of_the_command_line_stops_at_damaged_files_and_starts_afresh_if_told(tmp_path, capsys):
    settings = dict(epochs=2, train_num_samples=256, global_batch_size=128, micro_batch_size=128)
    argv = arguments(tmp_path, "run", **settings)
    directory = tmp_path / "run"
    assert main(argv) == 0
    whole = final(tmp_path, "run")
    damage_all(directory)
    (directory / "results.jsonl").write_bytes(b'\n{"epoch": 1}\n\xff\n')
    capsys.readouterr()
    assert main([*argv, "--resume", "latest"]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert "--resume allow-fresh" in line and "Train Epoch" not in captured.out
    assert main([*argv, "--resume", str(tmp_path / "none.pt")]) == 2
    assert "there is no checkpoint at" in capsys.readouterr().err
    assert main([*argv, "--resume", "allow-fresh"]) == 0
    assert_same_run(final(tmp_path, "run"), whole)
    assert epochs_of(directory / "results.jsonl") == [1, 2]
    assert f"lines 1, 3 of {directory / 'results.jsonl'} (no results" in said(directory)
