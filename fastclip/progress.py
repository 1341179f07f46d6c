"""A progress bar for terminals; log lines are printed above it."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

Advance = Callable[[int, str], None]


@contextlib.contextmanager
def progress_bar(
    total: int | None,
    done: int = 0,
    title: str = "training",
    unit: str = "step",
    shown: bool = True,
) -> Iterator[Advance]:
    """Show a progress bar; yield a function that advances it by a number and sets its text.

    Args:
        total: the number at the end of the bar; None if it is not known.
        done: the number to begin with.
        shown: whether to show the bar. Without `tqdm`, none is shown.
    """
    tqdm = _tqdm() if shown else None
    if tqdm is None:
        yield lambda more, text: None
        return
    with tqdm(total=total, initial=done, desc=title, unit=unit, dynamic_ncols=True) as bar:

        def advance(more: int, text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(more)

        yield advance


def is_watched() -> bool:
    """Return whether standard error, where bars are drawn, is a terminal."""
    return sys.stderr.isatty()


def write_line(text: str, file: TextIO) -> None:
    """Print a line immediately, without breaking a progress bar that is shown."""
    tqdm = _tqdm() if is_watched() else None
    if tqdm is None:
        print(text, file=file)
    else:
        tqdm.write(text, file=file)
    file.flush()


class LineHandler(logging.StreamHandler):
    """Writes log lines to standard output, without breaking a progress bar that is shown."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    def emit(self, record: logging.LogRecord) -> None:
        tqdm = _tqdm() if is_watched() else None
        if tqdm is None:
            super().emit(record)
        else:
            tqdm.write(self.format(record), file=self.stream)


def _tqdm():
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return None
    return tqdm
