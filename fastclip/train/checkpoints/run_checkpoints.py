"""The checkpoints of a run: each file has all that its ranks need to go on exactly where they were.

    {"epoch", "name", "state_dict", "optimizer"[, "scaler"][, "ema_state_dict", "ema_updates"],
     "steps": how many were taken and left out[, "loss_state_dict": of a loss with a state]
     [, "key_encoder_state_dict": of the encoder of a queue's keys],
     "global_step", "samples_seen", "config", "model_config", "preprocess_cfg": of images,
     "contents": of model and data,
     "names": further names of the file,
     "epoch_numbers": the numbers of the epoch so far, for results.jsonl,
     "ranks": for each rank its place in the data, the memory that it has measured, its random
              numbers [, "loss_state_dict", where it differs from the first rank's]}

The first line has open_clip's names, and open_clip loads the model of such a file; its optimiser
has the parameters in another order. "state_dict" has the weights that the optimiser steps: float32,
also with the precisions bf16 and fp16 (their masters), but 16 bits with pure_bf16 and pure_fp16.
"ema_state_dict", the file of an epoch's average and "key_encoder_state_dict" are float32 in any
precision.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from fastclip.data.loading.loader import PairLoader
from fastclip.distributed.processes import Processes
from fastclip.models.checkpoints.files import SAID
from fastclip.models.checkpoints.run_files import BEST_NAME
from fastclip.models.digests import digest_of
from fastclip.train.checkpoints.file import UnusableCheckpoint, read_checkpoint
from fastclip.train.checkpoints.same_run import OwnRun, resumption
from fastclip.train.checkpoints.store import CheckpointStore, Found, is_name_of_epoch
from fastclip.train.checkpoints.trained_state import LOSS, TrainedState, on_the_cpu
from fastclip.train.log.epoch_numbers import EpochNumbers
from fastclip.train.log.run_log import RunLog
from fastclip.train.settings.output_config import ALLOW_FRESH, LATEST
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.not_finite import listed, stored_not_finite
from fastclip.train.step.random_state import RandomState, torch_generators

# The parts of every checkpoint of a run, with their types.
PARTS = {
    "epoch": int, "global_step": int, "samples_seen": int, "state_dict": dict, "optimizer": dict,
    "ranks": list,
}  # fmt: skip
PARTS_OF_RANK = {"loader", "compute", "random_cpu", "random_device"}


class Progress(NamedTuple):
    epoch: int = 0  # number of finished epochs
    global_step: int = 0  # number of finished steps


class RunCheckpoints:
    """Saves and restores a run, with all ranks together; the first rank writes.

    Attributes:
        config: the settings in force.
        training: made from these settings.

    Args:
        own: the identity of the run. Checkpoints keep it, and are compared with it on resuming.
        directory: of the run; checkpoints are in a folder inside it.
        state, loader, compute: their states on this rank are saved, and restored in place.
        numbers: the numbers of the epoch so far, for results.jsonl; the first rank's numbers are
            saved, and restored in place on all ranks.
    """

    def __init__(
        self,
        own: OwnRun,
        processes: Processes,
        directory: Path,
        log: RunLog,
        state: TrainedState,
        loader: PairLoader,
        compute: CachedStep,
        numbers: EpochNumbers | None = None,
    ) -> None:
        self.numbers = numbers or EpochNumbers()
        self.own, self.processes, self.log = own, processes, log
        self.config, self.training = own.config_in_force, own.training
        self.state, self.loader, self.compute = state, loader, compute
        self.store = CheckpointStore(directory / "checkpoints", own.config.keep_last, log.warn)
        self._place: dict[str, Any] = {}

    def keep_place(self) -> None:
        """Note this rank's place after a step, for `save`; the rank may fetch more data later."""
        # The generators that built-in models draw from; reading data draws from no such generator.
        cpu, *on_device = RandomState(torch_generators([self.processes.device])).states
        self._place = {
            "loader": self.loader.state_dict(),
            "compute": self.compute.state_dict(),
            "random_cpu": cpu,
            "random_device": on_device[0] if on_device else None,
        }

    def save(self, progress: Progress, names: Sequence[str] = ()) -> None:
        """Write the checkpoint after a step, with the place that `keep_place` noted.

        Args:
            names: further names under which the file stays, such as "epoch_3.pt"; the average of
                the weights is then written to "epoch_3_ema.pt".

        Raises:
            CheckpointNotWritten: the file cannot be written; older checkpoints are as they were.
            FloatingPointError: on all ranks, if a value is not finite; nothing is written.
        """
        trained = self.state.state_dict()
        ranks = self.processes.gather(self._place | self._own_loss(trained))
        self._require_finite(trained | {"ranks": ranks}, progress.global_step)
        if ranks is None:
            return
        size = self.config.arithmetic(self.processes.world_size).global_batch_size
        content = {
            "epoch": progress.epoch,
            "name": self.config.name,
            **trained,
            "global_step": progress.global_step,
            "samples_seen": progress.global_step * size,
            "config": self.config.to_dict(),
            "model_config": self.own.model_config,
            "preprocess_cfg": self.own.preprocess_cfg,
            "contents": self.own.contents,
            "names": list(names),
            "epoch_numbers": self.numbers.state_dict(),
            "ranks": ranks,
        }
        self.store.save(content, progress.global_step, names)
        self._write_averages(content)

    def bytes_of_newest(self) -> int | None:
        """Return the size of the newest checkpoint with its average's file, or None without one."""
        newest = next(iter(self.store.paths()), None)
        return None if newest is None else newest.stat().st_size + self._bytes_of_average()

    def _bytes_of_average(self) -> int:
        average = self.state.average
        tensors = [] if average is None else average.module.state_dict().values()
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def name_best(self, progress: Progress) -> Path | None:
        """Keep the checkpoint after an epoch as epoch_best.pt; only the first rank calls this.

        Returns:
            The new path, or None if the checkpoint no longer exists.

        Raises:
            CheckpointNotWritten: the file cannot be written; older checkpoints are as they were.
        """
        names = f"step_{progress.global_step:09d}.pt", f"epoch_{progress.epoch}.pt"
        paths = [path for name in names if (path := self.store.directory / name).is_file()]
        if not paths:
            return None
        self.store.name(paths[0], BEST_NAME)
        if self.state.average is not None:
            self._write_averages(read_checkpoint(paths[0]) | {"names": [BEST_NAME]})
        return self.store.directory / BEST_NAME

    def _own_loss(self, trained: dict[str, Any]) -> dict[str, Any]:
        """Return the state of this rank's loss if it differs from the first rank's state.

        Buffers may differ, such as a queue that every rank fills by itself.
        """
        if LOSS not in trained or self.processes.world_size == 1:
            return {}
        digest = digest_of(trained[LOSS])
        is_first_ones = self.processes.broadcast(digest) == digest
        return {} if is_first_ones else {LOSS: on_the_cpu(trained[LOSS])}

    def _require_finite(self, trained: dict[str, Any], step: int) -> None:
        """Raise FloatingPointError on all ranks if a value is not finite; the first rank looks."""
        message = None
        if self.processes.is_first and (names := stored_not_finite(_checked(trained))):
            good = self.store.newest_path()
            which = "there is no other" if good is None else f"the newest good checkpoint is {good}"
            message = (
                f"the checkpoint after step {step} is not written, because {listed(names)} in it "
                f"is not finite; {which}: lower the learning rate, and resume from a good "
                "checkpoint or start again"
            )
        if (message := self.processes.broadcast(message)) is not None:
            raise FloatingPointError(message)

    def restore(self, path: str) -> Progress:
        """Go to the step of a checkpoint, and set aside the files that this run wrote after it.

        Args:
            path: "latest" takes the newest undamaged checkpoint of this run, and starts from the
                beginning only if there never was one; "allow-fresh" does so too if no checkpoint
                can be read.

        Returns:
            The place in the run: the beginning, if there is no checkpoint.

        Raises:
            ValueError: the checkpoint is of a run with other settings, is damaged, or is not a
                checkpoint of a run.
            FileNotFoundError: there is no checkpoint at `path`.
            OSError: the directory cannot be read.
        """
        found = self._find(path)
        if found is None:
            return Progress()
        content = found.content
        _require_run(found)
        if len(content["ranks"]) != self.processes.world_size:
            raise ValueError(
                f"{found.path} is of a run with {len(content['ranks'])} ranks, but this run has "
                f"{self.processes.world_size}: start as many ranks as before"
            )
        resumed = resumption(content, str(found.path), self.own)
        self._take_up(found, resumed.measures_anew)
        self.config, self.training = resumed.config, resumed.training
        self.log.say(f"resumed from {found.path}, after step {content['global_step']}")
        for text in resumed.said:
            self.log.say(text)
        for text in resumed.warned:
            self.log.warn(text)
        if self.processes.is_first:
            self._go_on_from(found)
        return Progress(content["epoch"], content["global_step"])

    def _find(self, asked: str) -> Found | None:
        """Return the checkpoint to resume from, on every rank.

        The first rank looks for all ranks, because others could find other files.
        """
        mine: list[Found | None] = []

        def look() -> Path | None:
            mine.append(self._look_for(asked))
            return None if mine[0] is None else mine[0].path

        path = self.processes.agree(look)
        if mine or path is None:
            return mine[0] if mine else None
        return Found(path, read_checkpoint(path))

    def _look_for(self, asked: str) -> Found | None:
        if asked not in (LATEST, ALLOW_FRESH):
            return Found(Path(asked), read_checkpoint(asked))
        if (found := self.store.newest()) is not None:
            return found
        lost = self._what_was_lost()
        if lost is None:
            self.log.warn(self._nothing_to_resume())
        elif asked == LATEST:
            raise ValueError(
                f"{lost}, and --resume latest never starts afresh where a run has been: repair the "
                "storage and start again, name a good copy with --resume PATH, or train from the "
                "beginning with --resume allow-fresh, which sets the existing files aside"
            )
        else:
            self.log.warn(f"{lost}: the run starts afresh, as --resume allow-fresh says")
            self._set_aside(step=-1, epoch=0)
        return None

    def _nothing_to_resume(self) -> str:
        """Return a warning that there is no checkpoint, which names runs with similar names.

        Otherwise a user who has mistyped a name would train from the beginning without noticing.
        """
        run = self.store.directory.parent
        others = [path.parent.name for path in run.parent.glob("*/checkpoints")]
        near = get_close_matches(run.name, set(others) - {run.name}, n=3, cutoff=0.5)
        hint = f"; runs with a similar name are {', '.join(near)}" if near else ""
        return f"{run} has nothing to resume, and the run starts from the beginning{hint}"

    def _what_was_lost(self) -> str | None:
        """Return a clause about the files of this run if none of them can be resumed from."""
        if num := len(self.store.files()):
            return f"none of the {num} checkpoint files in {self.store.directory} can be read"
        if self.log.has_epochs:
            return (
                f"{self.store.directory} has no checkpoint, though results.jsonl has epochs of "
                "this run"
            )
        return None

    def _take_up(self, found: Found, measures_anew: bool) -> None:
        """Restore the state of this rank."""
        content = found.content
        own = content["ranks"][self.processes.rank]
        try:
            self.state.load_state_dict(content | {k: own[k] for k in (LOSS,) if k in own})
            self.loader.load_state_dict(own["loader"])
            if "epoch_numbers" in content:
                self.numbers.load_state_dict(content["epoch_numbers"])
            else:  # from an earlier version; a new epoch clears these numbers itself
                self.numbers.begin_within()
            if not measures_anew:
                self.compute.load_state_dict(own["compute"])
            generators = torch_generators([self.processes.device])
            states = own["random_cpu"], own["random_device"]
            RandomState(generators, states[: len(generators)]).restore()
        except (LookupError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise ValueError(f"{found.path} does not fit this run ({reason})") from error

    def _go_on_from(self, found: Found) -> None:
        """Keep the files that lead to a checkpoint, and set all others aside."""
        content = found.content
        if not self.store.holds(found.path):
            self._set_aside(step=-1, epoch=0)
            return
        self._set_aside(content["global_step"], content["epoch"])
        # A run that was killed between the file of a step and its other names still owes these.
        for name in filter(self._is_owed, _names_in(content)):
            self.store.name(found.path, name)
        self._write_averages(content, self._is_owed)

    def _set_aside(self, step: int, epoch: int) -> None:
        if (moved := self.store.set_aside(step, epoch)) is not None:
            folder, num = moved
            after = f"after step {step}" if step >= 0 else "of another run"
            self.log.warn(f"{num} checkpoint files {after} are set aside in {folder}")
        self.log.keep_epochs(epoch)

    def _write_averages(
        self, content: dict[str, Any], is_wanted: Callable[[str], bool] = lambda name: True
    ) -> None:
        """Write the average of the weights, if there is one, next to each name of a checkpoint."""
        if "ema_state_dict" not in content:
            return
        average = {key: content[key] for key in ("epoch", "name", *SAID) if key in content}
        average["state_dict"] = content["ema_state_dict"]
        for name in _names_in(content):
            if is_wanted(of_average := f"{Path(name).stem}_ema.pt"):
                self.store.write(of_average, average)

    def _is_owed(self, name: str) -> bool:
        """Return whether a name must be written again: one without a number may be out of date."""
        return name.startswith("epoch_latest") or not (self.store.directory / name).exists()


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content with finite numbers for -inf, the logarithm of 0, in states of losses."""
    parts = [content, *content["ranks"]]
    of_run, *of_ranks = (
        part | {LOSS: tree_map_only(Tensor, _without_logs_of_zero, part[LOSS])}
        if LOSS in part
        else part
        for part in parts
    )
    return of_run | {"ranks": of_ranks}


def _without_logs_of_zero(x: Tensor) -> Tensor:
    return x.clamp(min=torch.finfo(x.dtype).min) if x.is_floating_point() else x


def _names_in(content: dict[str, Any]) -> list[str]:
    """Return the further names of the same content; earlier versions stored none."""
    names = content.get("names", ())
    return [name for name in names if isinstance(name, str) and is_name_of_epoch(name)]


def _require_run(found: Found) -> None:
    """Require that the content is a checkpoint of a run.

    Raises:
        UnusableCheckpoint: it is not.
    """
    lacking = _lacking_in(found.content)
    if lacking is not None:
        reason = (
            f"it is not a checkpoint of `fastclip train` ({lacking}): start from its weights with "
            "--pretrained"
        )
        raise UnusableCheckpoint(found.path, reason)


def _lacking_in(content: object) -> str | None:
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}"
    wrong = [name for name, kind in PARTS.items() if not isinstance(content.get(name), kind)]
    if wrong:
        return f"it has no {', '.join(wrong)}"
    for of in content["ranks"]:
        if not isinstance(of, dict) or not of.keys() >= PARTS_OF_RANK:
            return "it does not have the place of every rank"
    return None
