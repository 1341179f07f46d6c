"""What runs, said on standard error: one line that changes, or lines of a log where it is piped."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastclip.progress import is_watched

EVERY_SECONDS = 5.0  # at most one line of a log


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """Yields a function that takes what runs next, as a text of one line."""
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
    """Prints the first text, and whatever comes EVERY_SECONDS or more after the last printed one.

    Args:
        clock: seconds of a clock that never goes back.
    """
    begin, last = clock(), None

    def tell(text: str) -> None:
        nonlocal last
        now = clock()
        if last is None or now - last >= EVERY_SECONDS:
            last = now
            print(f"fastclip bench, {now - begin:.0f} s: {text}", file=sys.stderr, flush=True)

    return tell
