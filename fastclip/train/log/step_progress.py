"""Says how far a step and a run are, so that a long step does not leave minutes of silence."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
SILENCE = 60.0  # seconds without a line, after which a step says how far it is


class Pace:
    """Measures how long steps take on average, since the run was started."""

    def __init__(self) -> None:
        self._seconds, self._num = 0.0, 0

    def take(self, seconds: float) -> None:
        """Add the time of a step, with the wait for its data but without logging and saving."""
        self._seconds, self._num = self._seconds + seconds, self._num + 1

    def seconds_of(self, num_steps: int) -> float | None:
        """Return how long so many steps will take; None before the first step."""
        return num_steps * self._seconds / self._num if self._num else None


class StepProgress:
    """Counts the micro-batches that a step has done, and says so after a minute of silence.

    Args:
        say: called with a sentence.
        num_micro_batches: of this rank in a step.
        num_kept: called in the second pass over micro-batches; returns how many this pass skips.
        silence: seconds that may pass without a sentence.
        now: returns the time in seconds.

    Example:
        "step 1: 12 of 128 micro-batches are read after 61 s"
    """

    def __init__(
        self,
        say: Callable[[str], None],
        num_micro_batches: int,
        num_kept: Callable[[], int] = lambda: 0,
        silence: float = SILENCE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._num, self._silence, self._now = say, num_micro_batches, silence, now
        self._num_kept = num_kept
        self.begin(1)

    def begin(self, number: int) -> None:
        """Begin step `number`, from 1."""
        self._number, self._encoded = number, 0
        self._started = self._said = self._now()

    def reading(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield micro-batches, and say how many have been read."""
        for count, batch in enumerate(batches, 1):
            self._look(f"{count:,} of {self._num:,} micro-batches are read")
            yield batch

    def encoded(self) -> None:
        """Note that a micro-batch is about to be encoded, for the first or the second time."""
        self._encoded += 1
        number, num, again = self._encoded, self._num, ""
        if number > num:
            number, num, again = number - num, num - self._num_kept(), " a second time"
        self._look(f"the model is encoding micro-batch {number:,} of {num:,}{again}")

    def _look(self, what: str) -> None:
        now = self._now()
        if now - self._said >= self._silence:
            self._said = now
            self._say(f"step {self._number:,}: {what} after {now - self._started:.0f} s")
