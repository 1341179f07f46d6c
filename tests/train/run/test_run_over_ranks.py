"""Runs over ranks from the command line: started by torchrun, and with one of them killed."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch

from fastclip.cli import main
from fastclip.train.checkpoints.store import CheckpointStore
from tests.support.runs import (
    arguments,
    assert_same_run,
    count_steps,
    final,
    finish,
    start_ranks,
)

pytestmark = pytest.mark.alone  # two processes each, and one of them is killed at its time


@pytest.mark.slow
def test_two_ranks_train_as_torchrun_starts_them(tmp_path):
    argv = arguments(
        tmp_path, "ranks", epochs=2, loss_schedule="ring", val_data="digits-held-out",
        zeroshot_data="digits",
    )  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
               "2", "-m", "fastclip.cli", *argv]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "ranks" / "out.log").read_text()
    assert "128 pairs in one loss = 2 ranks x 2 micro-batches x 32" in lines
    assert lines.count("Train Epoch") == 8
    content = final(tmp_path, "ranks")
    assert content["global_step"] == 8 and len(content["ranks"]) == 2
    first, second = (rank["random_cpu"] for rank in content["ranks"])
    assert not torch.equal(first, second)
    results = [json.loads(x) for x in (tmp_path / "ranks/results.jsonl").read_text().splitlines()]
    assert results[-1]["num_samples"] == 1024 and 0 < results[-1]["image_to_text_R@10"] <= 1
    assert 0 < results[-1]["zeroshot-val-top1"] < results[-1]["zeroshot-val-top5"] < 1


def over_ranks(argv, errors):
    """Over two ranks; their exit statuses."""
    return [finish(process, 240) for process in start_ranks(argv, errors)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run over two ranks that nobody disturbs ends with."""
    logs = tmp_path_factory.mktemp("logs")
    assert over_ranks(arguments(logs, "whole", epochs=3), logs) == [0, 0]
    return final(logs, "whole")


@pytest.mark.slow
def test_killing_a_rank_ends_the_other_and_the_run_goes_on_where_it_was(whole, tmp_path):
    """Each rank in turn, in one run: the second time the processes are resumed ones."""
    argv = arguments(tmp_path, "killed", epochs=3, resume="latest")
    log = tmp_path / "killed" / "out.log"
    reached = 0
    for killed in (0, 1):
        ranks = start_ranks(argv, tmp_path)
        wanted = count_steps(log) + 3
        deadline = time.monotonic() + 60
        while count_steps(log) < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ranks[killed].kill()
        assert finish(ranks[1 - killed]) == 2
        error = (tmp_path / str(1 - killed)).read_text()
        assert f"rank {1 - killed} of 2 has lost another rank, which was killed" in error
        assert "--resume latest" in error and "Traceback" not in error
        before, reached = reached, final(tmp_path, "killed")["global_step"]
        assert before < reached < 12

    assert over_ranks(argv, tmp_path) == [0, 0]
    assert whole["global_step"] == 12
    assert_same_run(final(tmp_path, "killed"), whole)


@pytest.mark.slow
def test_sharded_run_is_the_replicated_one_and_resumes_to_the_bit(whole, tmp_path):
    argv = arguments(tmp_path, "sharded", epochs=3, fsdp=True, resume="latest")
    assert over_ranks(argv, tmp_path) == [0, 0]
    sharded = final(tmp_path, "sharded")
    groups = [[group["params"] for group in run["optimizer"]["param_groups"]]
              for run in (sharded, whole)]  # fmt: skip
    assert groups[0] == groups[1]
    for part in ("state_dict", "ema_state_dict"):
        assert list(sharded[part]) == list(whole[part])
        for name, value in whole[part].items():
            torch.testing.assert_close(sharded[part][name], value, rtol=1e-3, atol=1e-4)

    for path in CheckpointStore(tmp_path / "sharded" / "checkpoints").paths():
        if path.name not in ("step_000000010.pt", "epoch_1.pt"):
            path.unlink()
    assert over_ranks(argv, tmp_path) == [0, 0]
    assert "after step 10" in (tmp_path / "sharded" / "out.log").read_text()
    assert_same_run(final(tmp_path, "sharded"), sharded)


def test_sharding_one_process_is_refused_with_what_to_do(tmp_path, capsys):
    assert main(arguments(tmp_path, "alone", fsdp=True)) == 2
    assert "there is only one: start the run with torchrun" in capsys.readouterr().err
