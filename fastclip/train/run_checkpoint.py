"""The checkpoints of a run: what each of its ranks needs to go on exactly where it was, in a file.

    {"epoch", "name", "state_dict", "optimizer"[, "scaler"][, "ema_state_dict", "ema_updates"],
     "global_step", "samples_seen", "config", "model_config",
     "ranks": for each of them its place in the data, what it has measured, its random numbers}

The first line is open_clip's, which loads the model of such a file; its optimiser has the
parameters in another order. "state_dict" has what the optimiser steps: float32, also of the
precisions bf16 and fp16 (the masters), but 16 bits of pure_bf16 and pure_fp16. "ema_state_dict",
and the file of an epoch's average, are float32 in any precision.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fastclip.data.loading.loader import PairLoader
from fastclip.models.open_clip_config import to_json
from fastclip.train.checkpoint_store import CheckpointStore
from fastclip.train.random_state import RandomState, torch_generators
from fastclip.train.ranks import Ranks
from fastclip.train.run_config import RunConfig
from fastclip.train.run_log import RunLog
from fastclip.train.step import CachedStep
from fastclip.train.trained_state import TrainedState


class Progress(NamedTuple):
    epoch: int = 0  # number of epochs that are done
    global_step: int = 0  # number of steps that are done


class RunCheckpoints:
    """Saves and restores a run, all ranks together; the first one writes.

    Args:
        directory: of the run; checkpoints are in a folder of it.
        state, loader, compute: what they hold of this rank's is saved, and restored in place.
    """

    def __init__(
        self,
        config: RunConfig,
        ranks: Ranks,
        directory: Path,
        log: RunLog,
        state: TrainedState,
        loader: PairLoader,
        compute: CachedStep,
    ) -> None:
        self.config, self.ranks, self.log = config, ranks, log
        self.state, self.loader, self.compute = state, loader, compute
        self.store = CheckpointStore(directory / "checkpoints", config.keep_last)
        self._place: dict[str, Any] = {}

    def keep_place(self) -> None:
        """Note where this rank stands, after a step: it may fetch data, and `save` stores this."""
        # What forwards of built-in models draw from; data draws from nothing that has a state.
        cpu, *on_device = RandomState(torch_generators([self.ranks.device])).states
        self._place = {
            "loader": self.loader.state_dict(),
            "compute": self.compute.state_dict(),
            "random_cpu": cpu,
            "random_device": on_device[0] if on_device else None,
        }

    def save(self, progress: Progress, names: Sequence[str] = ()) -> None:
        """Write the checkpoint after a step, with the place that was kept then.

        Args:
            names: that the file stays under, such as "epoch_3.pt"; the average of the weights is
                then written to "epoch_3_ema.pt".

        Raises:
            CheckpointNotWritten: the disk refuses; older checkpoints are as they were.
        """
        ranks = self.ranks.gather(self._place)
        trained = self.state.state_dict()
        if ranks is None:
            return
        head = {"epoch": progress.epoch, "name": self.config.name}
        size = self.config.arithmetic(self.ranks.world_size).global_batch_size
        content = {
            **head,
            **trained,
            "global_step": progress.global_step,
            "samples_seen": progress.global_step * size,
            "config": self.config.to_dict(),
            "model_config": to_json(self.state.model.config),
            "ranks": ranks,
        }
        self.store.save(content, progress.global_step, names)
        if "ema_state_dict" in trained:
            average = {**head, "state_dict": trained["ema_state_dict"]}
            for name in names:
                self.store.write(f"{Path(name).stem}_ema.pt", average)

    def restore(self, path: str) -> Progress:
        """Go to where a checkpoint was written; "latest" is the newest whole one of this run.

        Returns:
            Where that is: at the beginning, if "latest" finds nothing.

        Raises:
            ValueError: it is of a run with other settings.
            FileNotFoundError: there is no checkpoint at `path`.
        """
        if path == "latest":
            # The first rank looks, for all: they could find other files, or no disk that is shared.
            found = self.store.newest_path(self.log.warn) if self.ranks.is_first else None
            path = self.ranks.share(found)
            if path is None:
                self.log.say("nothing to resume: starting")
                return Progress()
        content = torch.load(path, map_location="cpu", weights_only=True)
        if "ranks" not in content:
            raise ValueError(f"{path} is not of `fastclip train`: start from it with --pretrained")
        if len(content["ranks"]) != self.ranks.world_size:
            raise ValueError(
                f"{path} is of {len(content['ranks'])} ranks, this run has {self.ranks.world_size}"
            )
        size = self.config.arithmetic(self.ranks.world_size).global_batch_size
        if content["samples_seen"] != content["global_step"] * size:
            raise ValueError(f"{path} is of a run with another global batch than {size}")
        if "ema_state_dict" in content and self.state.average is None:
            self.log.warn(
                f"{path} has an average of the weights, which is dropped: --ema-decay is not given"
            )
        self.state.load_state_dict(content)
        own = content["ranks"][self.ranks.rank]
        self.loader.load_state_dict(own["loader"])
        self.compute.load_state_dict(own["compute"])
        generators = torch_generators([self.ranks.device])
        states = own["random_cpu"], own["random_device"]
        RandomState(generators, states[: len(generators)]).restore()
        self.log.say(f"resumed from {path}, after step {content['global_step']}")
        return Progress(content["epoch"], content["global_step"])
