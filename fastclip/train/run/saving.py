"""Decides when a run saves a checkpoint, and under which names."""

import time
from collections.abc import Sequence

from fastclip.train.checkpoints.run_checkpoints import Progress, RunCheckpoints
from fastclip.train.run.evaluation import is_due
from fastclip.train.settings.output_config import CheckpointConfig

MIB, GIB = 2**20, 2**30
WORTH_SAYING = GIB  # the log mentions the checkpoints of epochs from so many bytes on


class Saving:
    """Saves a run after so many steps or minutes, and remembers the last saved step."""

    def __init__(self, config: CheckpointConfig, checkpoints: RunCheckpoints) -> None:
        self._config, self._checkpoints = config, checkpoints
        self._saved_at, self._saved_step = time.monotonic(), None

    def save(self, progress: Progress, names: Sequence[str] = ()) -> None:
        """Save now, also under further names; see `RunCheckpoints.save`."""
        self._checkpoints.save(progress, names)
        self._saved_at, self._saved_step = time.monotonic(), progress.global_step

    def save_what_is_not(self, progress: Progress) -> None:
        """Save now, unless the last checkpoint is of this very step."""
        if self._saved_step != progress.global_step:
            self.save(progress)

    def is_late(self, step: int) -> bool:
        """Return whether `save_every_minutes` have passed since a checkpoint of an earlier step."""
        minutes = self._config.save_every_minutes
        is_late = minutes is not None and time.monotonic() - self._saved_at > 60 * minutes
        return is_late and self._saved_step != step

    def is_due_after(self, step: int) -> bool:
        """Return whether `save_every_steps` asks for a checkpoint after step number `step`."""
        every = self._config.save_every_steps
        return every is not None and step % every == 0

    def disk_of_epochs(self, epochs: int) -> str | None:
        """Say after the first epoch how much disk the checkpoints of all epochs will take.

        Args:
            epochs: of the run.

        Returns:
            A sentence, or None if they take little or `keep_checkpoints` limits them.
        """
        kept = self._config.keep_checkpoints
        frequency = self._config.save_frequency
        num = epochs // frequency + (epochs % frequency > 0) if frequency else 1
        size = self._checkpoints.bytes_of_newest()
        if kept is not None or size is None or num * size < WORTH_SAYING:
            return None
        return (
            f"a checkpoint (with its average of the weights, if there is one) takes "
            f"{size / MIB:,.0f} MiB, and the {num:,} checkpoints of epochs that this run keeps "
            f"will take {num * size / GIB:,.1f} GiB: --keep-checkpoints K keeps only the newest K "
            "and the best"
        )

    def names_of_epoch(self, epoch: int, is_last: bool) -> list[str]:
        """Return the names under which the checkpoint after `epoch` epochs stays."""
        is_kept = is_last or is_due(self._config.save_frequency, epoch, is_last)
        names = [f"epoch_{epoch}.pt"] if is_kept else []
        return names + (["epoch_latest.pt"] if self._config.save_most_recent else [])
