"""Report progress on standard error: one changing line, or log lines if the output is piped."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastclip.progress import is_watched

EVERY_SECONDS = 5.0  # at most one line of a log


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """Yield a function that reports, in a text of one line, what runs next."""
    if not is_watched():
        yield log_lines(time.monotonic)
        return
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        yield lambda text: print(text, file=sys.stderr)
        return
    with tqdm(bar_format="{desc} [{elapsed}]", leave=False) as bar:
        yield bar.set_description_str


def log_lines(clock: Callable[[], float]) -> Callable[[str], None]:
    """Return a function that prints a text at most once every EVERY_SECONDS.

    Args:
        clock: a monotonic clock, in seconds.
    """
    begin, last = clock(), None

    def tell(text: str) -> None:
        nonlocal last
        now = clock()
        if last is None or now - last >= EVERY_SECONDS:
            last = now
            print(f"fastclip bench, {now - begin:.0f} s: {text}", file=sys.stderr, flush=True)

    return tell
