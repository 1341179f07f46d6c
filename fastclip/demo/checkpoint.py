"""Checkpoints: everything that is needed to use a model again, or to go on training it.

    {"epoch", "name", "state_dict", "optimizer",       as open_clip writes them
     "global_step", "samples_seen", "config", "model_config", "tokenizer"}

Only tensors and plain values are stored, so that a file loads with `weights_only=True` and cannot
run code. At every moment the old checkpoint or the new one is there, whole (`atomic_file.py`).
"""

import os
from typing import NamedTuple

import torch

from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.models.clip import CLIP
from fastclip.models.open_clip_config import from_json, to_json
from fastclip.train.checkpoints.file import read_checkpoint, write_checkpoint
from fastclip.train.settings.step_config import TrainConfig
from fastclip.train.step.not_finite import require_finite


class Checkpoint(NamedTuple):
    model: CLIP  # in evaluation mode
    tokenizer: WordTokenizer
    config: TrainConfig
    global_step: int
    optimizer_state: dict  # for `optimizer.load_state_dict`


def save_checkpoint(
    path: str | os.PathLike,
    model: CLIP,
    tokenizer: WordTokenizer,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    global_step: int,
    name: str = "fastclip",
    epoch: int = 0,
) -> None:
    """Write a checkpoint to `path`, replacing what is there in one step.

    Raises:
        CannotWrite: the disk or the directory refuses; an older file at `path` is left as it was.
        FloatingPointError: a weight or a moment is not finite; nothing is written.
    """
    content = {
        "epoch": epoch,
        "name": name,
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "global_step": global_step,
        "samples_seen": global_step * config.batch_size,
        "config": config.to_dict(),
        "model_config": to_json(model.config),
        "tokenizer": tokenizer.to_dict(),
    }
    require_finite(content, os.fspath(path))
    write_checkpoint(path, content)


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint and rebuild the model and the tokenizer in it, on the CPU.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ValueError: the file is damaged, or lacks a part that `save_checkpoint` writes.
    """
    content = read_checkpoint(path)
    try:
        model = CLIP(from_json(content["model_config"]))
        model.load_state_dict(content["state_dict"])
        return Checkpoint(
            model.eval(),
            WordTokenizer(**content["tokenizer"]),
            TrainConfig(**content["config"]),
            content["global_step"],
            content["optimizer"],
        )
    except KeyError as error:
        raise ValueError(f"{os.fspath(path)} is not a checkpoint of fastclip: no {error}") from None
