"""Runs from the command line: killed and resumed, stopped and resumed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from fastclip.cli import main
from fastclip.train.checkpoints.store import CheckpointStore
from tests.support.runs import (
    EPOCHS,
    STEPS,
    arguments,
    assert_same_run,
    count_steps,
    final,
    finish,
    server,
    start,
    train,
)

KILLS = 3


@pytest.fixture(scope="module")
def processes():
    return server()


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
        # Of two steps in the log the first is saved, however slow the machine is.
        wanted = count_steps(log) + generator.randint(2, 3)
        deadline = time.monotonic() + 60
        while count_steps(log) < wanted and process.is_alive():
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
    assert len(steps) >= KILLS // 2 and steps == sorted(steps) and len(set(steps)) > 1, steps
    assert_same_run(final(logs, "killed"), whole)


@pytest.mark.slow
def test_run_that_is_told_to_stop_saves_and_goes_on_where_it_was(processes, undisturbed):
    logs, whole = undisturbed
    argv = arguments(logs, "stopped", save_every_steps=1000)
    process = start(processes, argv)
    deadline = time.monotonic() + 60
    log = logs / "stopped" / "out.log"
    while count_steps(log) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process) == 143
    assert "has stopped the run: a checkpoint is saved" in log.read_text()
    assert 0 < final(logs, "stopped")["global_step"] < STEPS
    assert finish(start(processes, [*argv, "--resume", "latest"])) == 0
    assert_same_run(final(logs, "stopped"), whole)


def train_in_a_group_of_its_own(argv):
    os.setsid()
    train(argv)


@pytest.mark.slow
def test_signal_to_all_processes_of_a_run_leaves_its_workers_until_it_has_saved(
    processes, tmp_path
):
    argv = arguments(tmp_path, "group", workers=2, epochs=1000, save_every_steps=10**6)
    process = processes.Process(target=train_in_a_group_of_its_own, args=(argv,))
    process.start()
    log = tmp_path / "group" / "out.log"
    deadline = time.monotonic() + 60
    while count_steps(log) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    assert finish(process, 30) == 143
    assert "has stopped the run: a checkpoint is saved" in log.read_text()
    assert final(tmp_path, "group")["global_step"] >= 5


@pytest.mark.slow
def test_damaged_newest_checkpoint_is_passed_over_and_the_run_ends_the_same(processes, undisturbed):
    logs, whole = undisturbed
    shutil.copytree(logs / "whole", logs / "damaged")
    checkpoints = logs / "damaged" / "checkpoints"
    newest = CheckpointStore(checkpoints).paths()[0]
    for path in (newest, checkpoints / f"epoch_{EPOCHS}.pt"):  # one file, before it was copied
        path.write_bytes(path.read_bytes()[:-50])
    assert finish(start(processes, arguments(logs, "damaged", resume="latest"))) == 0
    assert "is skipped: it is not a whole file" in (logs / "damaged" / "out.log").read_text()
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
    assert "start from its weights with --pretrained" in capsys.readouterr().err


@pytest.mark.slow
def test_checkpoint_of_another_global_batch_is_not_resumed(undisturbed, tmp_path, capsys):
    logs, _ = undisturbed
    path = logs / "whole" / "checkpoints" / f"epoch_{EPOCHS}.pt"
    assert main(arguments(tmp_path, "other", global_batch_size=256, resume=path)) == 2
    error = capsys.readouterr().err
    assert "a step was 128 pairs in one loss" in error and "is now 256 pairs in one loss" in error


@pytest.mark.slow
def test_run_directory_has_what_open_clips_has(undisturbed):
    logs, whole = undisturbed
    directory = logs / "whole"
    assert "lr: 0.0015\n" in (directory / "params.txt").read_text()
    lines = (directory / "out.log").read_text().splitlines()
    steps = [line for line in lines if "Train Epoch" in line]
    assert len(steps) == STEPS and "Train Epoch: 0 [128/512 (25%)] Data (t): " in steps[0]
    assert "128 pairs in one loss = 1 rank x 4 micro-batches x 32" in lines[0]
    results = [json.loads(x) for x in (directory / "results.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in results] == list(range(1, EPOCHS + 1))
    assert whole["epoch"] == EPOCHS and whole["samples_seen"] == 128 * STEPS
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
def test_a_step_of_8192_pairs_takes_three_quarters_of_a_gigabyte(tmp_path):
    """650 MiB were found; one matrix of its logits would be 256 MiB more."""
    changes = {"train-num-samples": 8192, "global-batch-size": 8192, "micro-batch-size": 512,
               "activation-budget": 0, "epochs": 1}  # fmt: skip
    peak = tmp_path / "peak"
    argv = [sys.executable, "-m", "fastclip.process_memory", peak, "fastclip.cli"]
    argv += arguments(tmp_path, "huge", **changes)
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    assert 2**28 < int(peak.read_text()) < 0.75 * 2**30
    log = (tmp_path / "huge" / "out.log").read_text()
    assert "[8192/8192 (100%)]" in log and "16 micro-batches x 512" in log
