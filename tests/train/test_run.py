"""Runs from the command line: killed and resumed, stopped and resumed, over ranks."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.utils._pytree import tree_map

from fastclip.cli import main
from fastclip.train.checkpoint_store import CheckpointStore

EPOCHS, STEPS = 6, 24
KILLS = 8
SETTINGS = {
    "train-data": "digits", "train-num-samples": 1024, "model": "digits",
    "global-batch-size": 256, "micro-batch-size": 64, "workers": 0, "epochs": EPOCHS,
    "lr": 1.5e-3, "warmup": 2, "log-every-n-steps": 1, "save-every-steps": 1, "device": "cpu",
    "activation-budget": "2MiB", "shuffle-buffer": 100, "force-patch-dropout": 0.3,
    "ema-decay": 0.9,
}  # fmt: skip


def arguments(logs, name, **changes):
    settings = SETTINGS | {k.replace("_", "-"): v for k, v in changes.items()}
    flags = [part for k, v in settings.items() for part in (f"--{k}", str(v))]
    return ["train", *flags, "--logs-dir", str(logs), "--name", name]


def train(argv):
    """What a child process does; its exit status is the command's."""
    torch.set_num_threads(1)
    sys.stdout = open(os.devnull, "w")
    sys.exit(main(argv))


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fastclip.train.run", "sklearn.datasets"])
    return context


def count_steps(log):
    return log.read_text().count("Train Epoch") if log.is_file() else 0


def start(processes, argv):
    process = processes.Process(target=train, args=(argv,))
    process.start()
    return process


def finish(process, seconds=60):
    process.join(seconds)
    assert process.exitcode is not None
    return process.exitcode


def final(logs, name):
    return CheckpointStore(logs / name / "checkpoints").newest().content


def plain(value):
    """Nested values with lists in the place of tensors, to compare."""
    return tree_map(lambda x: x.tolist() if isinstance(x, torch.Tensor) else x, value)


def assert_same_run(one, other):
    assert one["global_step"] == other["global_step"] == STEPS
    for part in ("state_dict", "ema_state_dict"):
        for name, value in one[part].items():
            assert torch.equal(value, other[part][name]), (part, name)
    for key, state in one["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, other["optimizer"]["state"][key][name]), (key, name)
    mine, theirs = one["ranks"][0], other["ranks"][0]
    assert plain(mine["loader"]) == plain(theirs["loader"])
    assert torch.equal(mine["random_cpu"], theirs["random_cpu"])


@pytest.fixture(scope="module")
def undisturbed(processes, tmp_path_factory):
    logs = tmp_path_factory.mktemp("logs")
    assert finish(start(processes, arguments(logs, "whole"))) == 0
    return logs, final(logs, "whole")


@pytest.mark.slow
def test_run_killed_at_random_moments_ends_as_the_one_that_was_not(processes, undisturbed):
    logs, whole = undisturbed
    generator = random.Random(0)
    argv = arguments(logs, "killed", resume="latest")
    log = logs / "killed" / "out.log"
    steps = []
    while len(steps) < KILLS:
        process = start(processes, argv)
        seen = count_steps(log)
        deadline = time.monotonic() + 60
        while count_steps(log) == seen and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.join(generator.uniform(0, 0.1))
        if process.exitcode is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        found = CheckpointStore(logs / "killed" / "checkpoints").newest()
        steps.append(found.content["global_step"] if found else 0)
    if process.exitcode != 0:
        assert finish(start(processes, argv)) == 0
    assert len(steps) >= 3 and steps == sorted(steps) and len(set(steps)) > 1, steps
    assert_same_run(final(logs, "killed"), whole)


@pytest.mark.slow
def test_run_that_is_told_to_stop_saves_and_goes_on_where_it_was(processes, undisturbed):
    logs, whole = undisturbed
    argv = arguments(logs, "stopped", save_every_steps=1000)
    process = start(processes, argv)
    deadline = time.monotonic() + 60
    log = logs / "stopped" / "out.log"
    while count_steps(log) < 6:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process) == 143
    assert "told to stop: saved after step" in log.read_text()
    assert 0 < final(logs, "stopped")["global_step"] < STEPS
    assert finish(start(processes, [*argv, "--resume", "latest"])) == 0
    assert_same_run(final(logs, "stopped"), whole)


@pytest.mark.slow
def test_damaged_newest_checkpoint_is_passed_over_and_the_run_ends_the_same(processes, undisturbed):
    logs, whole = undisturbed
    assert finish(start(processes, arguments(logs, "damaged"))) == 0
    store = CheckpointStore(logs / "damaged" / "checkpoints")
    newest = store.paths()[0]
    newest.write_bytes(newest.read_bytes()[:-50])  # also epoch_6.pt, which is the same file
    assert finish(start(processes, arguments(logs, "damaged", resume="latest"))) == 0
    assert "is passed over: not a whole file" in (logs / "damaged" / "out.log").read_text()
    assert_same_run(final(logs, "damaged"), whole)


@pytest.mark.slow
def test_results_of_an_epoch_that_was_cut_off_are_made_up_for(processes, undisturbed, tmp_path):
    logs, whole = undisturbed
    shutil.copytree(logs / "whole", tmp_path / "whole")
    results = tmp_path / "whole" / "results.jsonl"
    lines = results.read_text().splitlines(keepends=True)
    results.write_text("".join(lines[:-1]))  # as if killed after the checkpoint
    assert finish(start(processes, arguments(tmp_path, "whole", resume="latest"))) == 0
    assert results.read_text() == "".join(lines)
    assert finish(start(processes, arguments(tmp_path, "whole", resume="latest"))) == 0
    assert results.read_text() == "".join(lines)
    assert_same_run(final(tmp_path, "whole"), whole)


@pytest.mark.slow
def test_average_of_the_weights_is_a_file_of_its_own(undisturbed):
    logs, whole = undisturbed
    path = logs / "whole" / "checkpoints" / f"epoch_{EPOCHS}_ema.pt"
    average = torch.load(path, weights_only=True)["state_dict"]
    assert whole["ema_updates"] == STEPS
    for name, value in whole["ema_state_dict"].items():
        assert torch.equal(average[name], value), name


@pytest.mark.slow
def test_foreign_checkpoint_is_not_resumed_and_says_what_to_do(undisturbed, tmp_path, capsys):
    _, whole = undisturbed
    torch.save({"epoch": 1, "state_dict": whole["state_dict"]}, tmp_path / "theirs.pt")
    argv = arguments(tmp_path, "mine", resume=tmp_path / "theirs.pt")
    assert main(argv) == 2
    assert "is not of `fastclip train`: start from it with --pretrained" in capsys.readouterr().err


@pytest.mark.slow
def test_run_directory_has_what_open_clips_has(undisturbed):
    logs, whole = undisturbed
    directory = logs / "whole"
    assert "lr: 0.0015\n" in (directory / "params.txt").read_text()
    lines = (directory / "out.log").read_text().splitlines()
    steps = [line for line in lines if "Train Epoch" in line]
    assert len(steps) == STEPS and "Train Epoch: 0 [ 256/1024 (25%)] Data (t): " in steps[0]
    assert "256 pairs in one loss = 1 ranks x 4 micro-batches x 64" in lines[0]
    results = [json.loads(x) for x in (directory / "results.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in results] == list(range(1, EPOCHS + 1))
    assert whole["epoch"] == EPOCHS and whole["samples_seen"] == 256 * STEPS
    names = {path.name for path in (directory / "checkpoints").iterdir()}
    assert {f"epoch_{e}.pt" for e in range(1, EPOCHS + 1)} <= names


@pytest.mark.slow
def test_checkpoint_is_open_clips_and_ours(undisturbed):
    from fastclip.models.checkpoints.load import load_checkpoint
    from fastclip.models.factory import build_model
    from fastclip.models.open_clip_config import from_json

    logs, whole = undisturbed
    path = logs / "whole" / "checkpoints" / f"epoch_{EPOCHS}.pt"
    content = torch.load(path, weights_only=True)
    assert {"epoch", "name", "state_dict", "optimizer"} <= set(content)
    model = build_model(from_json(content["model_config"]))
    assert load_checkpoint(model, path) is None
    assert torch.equal(model.visual.proj, whole["state_dict"]["visual.proj"])


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["gather", "ring"])
def test_two_ranks_train_as_torchrun_starts_them(schedule, tmp_path):
    argv = arguments(
        tmp_path, "ranks", epochs=2, loss_schedule=schedule, val_data="digits-held-out",
        zeroshot_data="digits",
    )  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
               "2", "-m", "fastclip.cli", *argv]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "ranks" / "out.log").read_text()
    assert "256 pairs in one loss = 2 ranks x 2 micro-batches x 64" in lines
    assert lines.count("Train Epoch") == 8
    content = final(tmp_path, "ranks")
    assert content["global_step"] == 8 and len(content["ranks"]) == 2
    first, second = (rank["random_cpu"] for rank in content["ranks"])
    assert not torch.equal(first, second)
    results = [json.loads(x) for x in (tmp_path / "ranks/results.jsonl").read_text().splitlines()]
    assert results[-1]["num_samples"] == 1024 and 0 < results[-1]["image_to_text_R@10"] <= 1
    assert 0 < results[-1]["zeroshot-val-top1"] < results[-1]["zeroshot-val-top5"] < 1
