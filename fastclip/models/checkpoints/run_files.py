"""The names of a run's checkpoints, which tell what was written when.

step_000001200.pt     every so many steps or minutes, and at the end
epoch_3.pt            what stays of an epoch; maybe epoch_latest.pt, and epoch_best.pt
epoch_3_ema.pt        the average of the weights alone
"""

import re
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

FOLDER = "checkpoints"  # of a run's directory
STEP_NAME = re.compile(r"step_(\d+)\.pt")
EPOCH_NAME = re.compile(r"epoch_(\d+)\.pt")
LATEST_NAME, BEST_NAME = "epoch_latest.pt", "epoch_best.pt"


def newest_first(files: Iterable[Path]) -> list[Path]:
    """Return those of `files` that a run can go on from: by step, then of epochs alone.

    The best epoch's comes last: it may be of any epoch, and what it is the best by is not known.
    """
    files = list(files)
    by_number = [
        sorted((p for p in files if name.fullmatch(p.name)), key=number_in, reverse=True)
        for name in (STEP_NAME, EPOCH_NAME)
    ]
    named = [path for name in (LATEST_NAME, BEST_NAME) for path in files if path.name == name]
    return [*by_number[0], *by_number[1], *named]


def number_in(path: Path) -> int:
    """Return the number of the step or of the epoch that the name of a checkpoint has."""
    return int(re.search(r"\d+", path.name)[0])


def newest_of_run(directory: str | PathLike) -> Path | None:
    """Return the newest checkpoint in a run's directory, or None if it is none.

    Raises:
        OSError: the directory cannot be read.
    """
    folder = Path(directory) / FOLDER
    if not folder.is_dir():
        return None
    return next(iter(newest_first(folder.iterdir())), None)
