"""The settings of the files that a run writes: its directory, its checkpoints and its log."""

from dataclasses import dataclass

from fastclip.train.settings.setting import Settings, setting

REPORTERS = ("tensorboard", "wandb")
# Values of `resume` that are not paths: the newest checkpoint; the same, or else a fresh start.
LATEST, ALLOW_FRESH = "latest", "allow-fresh"


@dataclass(frozen=True)
class CheckpointConfig(Settings):
    """The settings for resuming from a checkpoint, and for writing and keeping checkpoints."""

    resume: str | None = setting(
        None,
        "The checkpoint to resume from: a path, `latest` for the newest checkpoint of --name "
        "(if there is none, a new run starts, with a warning), or `allow-fresh`, which also starts "
        "from the beginning if no checkpoint can be read. Resuming skips a damaged "
        "checkpoint with a warning, refuses the checkpoint of another run, and logs which settings "
        "have changed.",
        metavar="CHECKPOINT",
    )
    save_frequency: int = setting(
        1,
        "The checkpoints of every so many epochs and of the last epoch are kept. With 0, only the "
        "checkpoint of the last epoch is kept.",
        least=0,
    )
    save_every_steps: int | None = setting(
        None,
        "A checkpoint is saved every so many steps. By default no checkpoint is saved because of "
        "the number of steps.",
        least=1,
    )
    save_every_minutes: float | None = setting(
        30.0, "A checkpoint is saved when so many minutes have passed since the last one."
    )
    keep_last: int = setting(
        3,
        "The number of newest checkpoints that are kept besides the checkpoints of epochs.",
        least=1,
    )
    save_most_recent: bool = setting(
        False, "Keep the checkpoint of the newest epoch under the name epoch_latest.pt, too."
    )
    keep_checkpoints: int | None = setting(
        None,
        "The number of newest checkpoints of epochs that are kept. Older ones of this run are "
        "removed after each epoch, but the best checkpoint stays as epoch_best.pt. By default all "
        "are kept.",
        least=1,
    )
    best_metric: str | None = setting(
        None,
        "The metric that decides which epoch is the best: the checkpoint of the epoch with the "
        "largest value is kept as epoch_best.pt. The metric is a name in results.jsonl, such as "
        "image_to_text_R@5 or zeroshot-val-top1. By default it is the mean of R@1 in both "
        "directions if --val-data is given, and the first zero-shot top1 otherwise. A run without "
        "an evaluation has no best epoch.",
        metavar="NAME",
    )


@dataclass(frozen=True)
class LogConfig(Settings):
    """The settings of a run's folder and log, and of programs to which it reports its numbers."""

    logs: str = setting(
        "./logs",
        "The folder that holds the folders of all runs. Use --logs-dir under torchrun, which takes "
        "--logs for an abbreviation of one of its own flags.",
        aliases=("--logs-dir",),
        metavar="FOLDER",
    )
    name: str | None = setting(
        None,
        "The name of this run and of its folder in --logs. By default it is made from the time and "
        "the settings.",
        metavar="NAME",
    )
    log_every_n_steps: int = setting(
        100,
        "Every so many steps the log has a line, and for the first and the last step of an epoch.",
        least=1,
    )
    batch_curve_every: int | None = setting(
        None,
        "Every so many steps, the run computes a batch curve: the CLIP loss of all smaller batches "
        "that the batch of a step can be cut into, at the cost of one further forward pass of the "
        "loss. The curve is logged, and drawn in batch_curve.png if matplotlib is installed. A "
        "flat end of the curve means that a larger batch changes little. By default no curve is "
        "computed.",
        least=1,
    )
    report_to: str = setting(
        "",
        "The programs to which the numbers of the run are reported besides its own files: "
        "tensorboard, wandb, both separated by a comma, or all. By default there are none.",
    )
    wandb_project_name: str = setting(
        "open-clip", "The Weights & Biases project that shows the run."
    )
    wandb_notes: str = setting("", "The notes that Weights & Biases shows with the run.")

    def __post_init__(self) -> None:
        super().__post_init__()
        is_name = self.name is None or _is_name(self.name)
        self._require(is_name, "name", "the name of one folder in --logs, without / and \\")
        known = set(self.reporters) <= set(REPORTERS)
        self._require(known, "report_to", f"some of {REPORTERS}, separated by commas, or all")

    @property
    def reporters(self) -> tuple[str, ...]:
        """The programs to which steps and evaluations are reported besides the run's own files."""
        if self.report_to == "all":
            return REPORTERS
        return tuple(name for name in self.report_to.split(",") if name)


def _is_name(text: str) -> bool:
    """Return whether the text names a folder inside another one, on any system."""
    has_separator = not {"/", "\\"}.isdisjoint(text)
    # Surrogates stand for bytes of a command line that the locale could not decode: UTF-8.
    read = text.encode(errors="surrogateescape").decode(errors="replace")
    return read.isprintable() and not has_separator and text.strip() not in ("", ".", "..")
