"""The names of the files in which a run keeps its checkpoints.

step_000001200.pt     written every so many steps or minutes, and at the end of the run
epoch_3.pt            written after an epoch, and kept; also epoch_latest.pt and epoch_best.pt
epoch_3_ema.pt        only the moving average of the weights
"""

import re
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

FOLDER = "checkpoints"  # inside a run's directory
STEP_NAME = re.compile(r"step_(\d+)\.pt")
EPOCH_NAME = re.compile(r"epoch_(\d+)\.pt")
LATEST_NAME, BEST_NAME = "epoch_latest.pt", "epoch_best.pt"


def newest_first(files: Iterable[Path]) -> list[Path]:
    """Return the checkpoints in `files` that a run can resume from, the newest first.

    Checkpoints of steps come before checkpoints of epochs. epoch_best.pt comes last, because it may
    be of any epoch, and the metric that it is the best by is not known.
    """
    files = list(files)
    by_number = [
        sorted((p for p in files if name.fullmatch(p.name)), key=number_in, reverse=True)
        for name in (STEP_NAME, EPOCH_NAME)
    ]
    named = [path for name in (LATEST_NAME, BEST_NAME) for path in files if path.name == name]
    return [*by_number[0], *by_number[1], *named]


def number_in(path: Path) -> int:
    """Return the number of the step or epoch in the name of a checkpoint."""
    return int(re.search(r"\d+", path.name)[0])


def newest_of_run(directory: str | PathLike) -> Path | None:
    """Return the newest checkpoint in a run's directory, or None if there is none.

    Raises:
        OSError: the directory cannot be read.
    """
    folder = Path(directory) / FOLDER
    if not folder.is_dir():
        return None
    return next(iter(newest_first(folder.iterdir())), None)
