"""Runs of the digits model from the command line, small enough for a test each."""

import multiprocessing
import os
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map

from fastclip.cli import main
from fastclip.commands import train as train_command
from fastclip.train.checkpoints.store import CheckpointStore

EPOCHS, STEPS = 4, 16
SETTINGS = {
    "train-data": "digits", "train-num-samples": 512, "model": "digits",
    "global-batch-size": 128, "micro-batch-size": 32, "workers": 0, "epochs": EPOCHS,
    "lr": 1.5e-3, "warmup": 2, "log-every-n-steps": 1, "save-every-steps": 1, "device": "cpu",
    "activation-budget": "1MiB", "shuffle-buffer": 100, "force-patch-dropout": 0.3,
    "ema-decay": 0.9,
}  # fmt: skip


# As this is imported, and not in `server`: the one server that makes all processes imports nothing
# more once it runs, and other tests may start it. Optimisers import torch._dynamo.
multiprocessing.set_forkserver_preload(
    ["fastclip.train.run.run", "sklearn.datasets", "torch._dynamo"]
)


def arguments(logs: Path, name: str, **changes: Any) -> list[str]:
    """The arguments of `fastclip` for a run of these settings."""
    settings = SETTINGS | {k.replace("_", "-"): v for k, v in changes.items()}
    flags = [
        part for k, v in settings.items() for part in ([f"--{k}"] + [str(v)] * (v is not True))
    ]
    return ["train", *flags, "--logs-dir", str(logs), "--name", name]


def say_nothing(*args: Any) -> None:
    """In the place of the count of what a step takes: half of what so small a run does."""


def server() -> multiprocessing.context.BaseContext:
    """Makes processes that have imported what a run needs."""
    return multiprocessing.get_context("forkserver")


def start(
    processes: multiprocessing.context.BaseContext, argv: list[str]
) -> multiprocessing.Process:
    process = processes.Process(target=train, args=(argv,))
    process.start()
    return process


def train(argv: list[str]) -> None:
    """What a child process does; its exit status is the command's."""
    torch.set_num_threads(1)
    sys.stdout = open(os.devnull, "w")
    train_command.say_what_it_takes = say_nothing
    sys.exit(main(argv))


def start_ranks(argv: list[str], errors: Path) -> list[multiprocessing.Process]:
    """Two processes as torchrun starts them, without one that watches over them.

    errors: a directory, for what each says on its standard error, under the number of its rank.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        server().Process(target=_train_as_rank, args=(rank, port, argv, errors / str(rank)))
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    return ranks


def _train_as_rank(rank: int, port: int, argv: list[str], errors: Path) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2",
        "RANK": str(rank), "LOCAL_RANK": str(rank),
    }  # fmt: skip
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), sys.stderr.fileno())
    train(argv)


def finish(process: multiprocessing.Process, seconds: float = 60) -> int:
    process.join(seconds)
    assert process.exitcode is not None
    return process.exitcode


def count_steps(log: Path) -> int:
    return log.read_text().count("Train Epoch") if log.is_file() else 0


def final(logs: Path, name: str) -> dict[str, Any]:
    """The content of the newest checkpoint."""
    return CheckpointStore(logs / name / "checkpoints").newest().content


def assert_same_run(one: dict[str, Any], other: dict[str, Any]) -> None:
    """To the bit: weights, their average, moments, and of every rank data and random numbers."""
    assert one["global_step"] == other["global_step"]
    for part in ("state_dict", "ema_state_dict", "key_encoder_state_dict"):
        assert one.get(part, {}).keys() == other.get(part, {}).keys()
        for name, value in one.get(part, {}).items():
            assert torch.equal(value, other[part][name]), (part, name)
    for key, state in one["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, other["optimizer"]["state"][key][name]), (key, name)
    for mine, theirs in zip(one["ranks"], other["ranks"], strict=True):
        assert _plain(mine["loader"]) == _plain(theirs["loader"])
        assert torch.equal(mine["random_cpu"], theirs["random_cpu"])


def _plain(value: Any) -> Any:
    """Nested values with lists in the place of tensors, to compare."""
    return tree_map(lambda x: x.tolist() if isinstance(x, torch.Tensor) else x, value)
