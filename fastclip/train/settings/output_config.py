"""The settings of what a run writes: its directory, its checkpoints and its log."""

from dataclasses import dataclass

from fastclip.train.settings.setting import Settings, setting

REPORTERS = ("tensorboard", "wandb")
# Of `resume`, where it is no path: the newest checkpoint of the run; the same, or else afresh.
LATEST, ALLOW_FRESH = "latest", "allow-fresh"


@dataclass(frozen=True)
class CheckpointConfig(Settings):
    """From which checkpoint a run goes on, and when it writes others."""

    resume: str | None = setting(
        None,
        "The checkpoint to go on from: a path, `latest` for the newest of --name, or "
        "`allow-fresh`, which is `latest` and starts afresh where no checkpoint is whole. The "
        "checkpoint of another run is refused, and the log says what has changed.",
        metavar="CHECKPOINT",
    )
    save_frequency: int = setting(
        1,
        "The number of epochs from one checkpoint that is kept to the next. With 0, only that of "
        "the last epoch is.",
        least=0,
    )
    save_every_steps: int | None = setting(
        None,
        "The number of steps from one checkpoint to the next. By default steps are not counted.",
        least=1,
    )
    save_every_minutes: float | None = setting(
        30.0, "The number of minutes from one checkpoint to the next."
    )
    keep_last: int = setting(
        3,
        "The number of newest checkpoints that stay, in addition to those of epochs.",
        least=1,
    )
    save_most_recent: bool = setting(
        False, "Keep the checkpoint of the newest epoch as epoch_latest.pt too."
    )
    keep_checkpoints: int | None = setting(
        None,
        "The number of newest checkpoints of epochs that stay; older ones of this run are removed "
        "after each epoch, and the best one stays under its own name, epoch_best.pt. By default "
        "all stay.",
        least=1,
    )
    best_metric: str | None = setting(
        None,
        "The metric whose largest value makes an epoch the best, whose checkpoint stays as "
        "epoch_best.pt: a name in results.jsonl, such as image_to_text_R@5 or zeroshot-val-top1. "
        "By default it is the mean of R@1 in both directions where there is --val-data, else the "
        "first zero-shot top1; where nothing is evaluated, no epoch is the best.",
        metavar="NAME",
    )


@dataclass(frozen=True)
class LogConfig(Settings):
    """Where a run writes, and whom it tells of its numbers."""

    logs: str = setting(
        "./logs",
        "The folder of all runs. Under torchrun it is --logs-dir, as torchrun takes --logs for the "
        "beginning of a flag of its own.",
        aliases=("--logs-dir",),
        metavar="FOLDER",
    )
    name: str | None = setting(
        None,
        "The name of this run, and of its folder in --logs. By default it is made of the time and "
        "the settings.",
        metavar="NAME",
    )
    log_every_n_steps: int = setting(
        100, "The number of steps from one line of the log to the next.", least=1
    )
    batch_curve_every: int | None = setting(
        None,
        "The number of steps from one curve of the loss against the batch size to the next: the "
        "CLIP loss of all smaller batches that the batch of a step can be cut into, for one "
        "further forward of the loss. Curves are in the log, and drawn in batch_curve.png where "
        "matplotlib is installed: a curve with a flat end says that a larger batch changes "
        "little. By default there is none.",
        least=1,
    )
    report_to: str = setting(
        "",
        "The programs that get the numbers of the run too: tensorboard, wandb, both with a comma "
        "between, or all. By default there is none.",
    )
    wandb_project_name: str = setting(
        "open-clip", "The project at Weights & Biases that the run is shown in."
    )
    wandb_notes: str = setting("", "The notes that Weights & Biases shows with the run.")

    def __post_init__(self) -> None:
        super().__post_init__()
        is_name = self.name is None or _is_name(self.name)
        self._require(is_name, "name", "the name of one folder, in --logs, without / and \\")
        known = set(self.reporters) <= set(REPORTERS)
        self._require(known, "report_to", f"some of {REPORTERS} with commas between, or all")

    @property
    def reporters(self) -> tuple[str, ...]:
        """What steps and evaluations are reported to, in addition to the files of the run."""
        if self.report_to == "all":
            return REPORTERS
        return tuple(name for name in self.report_to.split(",") if name)


def _is_name(text: str) -> bool:
    """Does it name a folder inside another, whatever the system?"""
    has_separator = not {"/", "\\"}.isdisjoint(text)
    # What the locale could not read of a command line are bytes of UTF-8.
    read = text.encode(errors="surrogateescape").decode(errors="replace")
    return read.isprintable() and not has_separator and text.strip() not in ("", ".", "..")
