"""Questions of many clients, answered together by one thread, which alone uses the model.

A question waits up to 5 ms for others, counted from when it came: behind a busy model it has waited
already, and what has gathered by then is answered at once.
"""

import asyncio
import concurrent.futures
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastclip.serve.limits import Limits


class Busy(Exception):
    """As many questions wait as may, or no more are taken."""


class TooSlow(Exception):
    """The answer was not there in time."""


@dataclass(frozen=True, eq=False)
class _Asked:
    question: Any
    answer: concurrent.futures.Future = field(default_factory=concurrent.futures.Future)
    came: float = field(default_factory=time.monotonic)


class Batcher:
    """Attributes:
    num_waiting: how many questions wait for the model.

    Args:
        answer_all: returns the answer to each question, or the error that it has; called in the
            thread. What it raises is the error of all.
        note: called in the thread with how many questions were answered together.

    Example:
        >>> batcher = Batcher(lambda questions: [q.upper() for q in questions], Limits())
        >>> asyncio.run(batcher.ask("cat"))
        'CAT'
        >>> batcher.close()
    """

    def __init__(
        self,
        answer_all: Callable[[Sequence[Any]], Sequence[Any]],
        limits: Limits,
        note: Callable[[int], None] = lambda num: None,
    ) -> None:
        self._answer_all, self._limits, self._note = answer_all, limits, note
        self._queue: queue.Queue[_Asked | None] = queue.Queue(limits.waiting)
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        return self._queue.qsize()

    async def ask(self, question: Any) -> Any:
        """Return the answer to a question, or raise the error that it has.

        Raises:
            Busy, TooSlow: see there. Who goes away is not answered, if the work has not begun.
        """
        if self._is_closed:
            raise Busy("the server is about to stop")
        asked = _Asked(question)
        try:
            self._queue.put_nowait(asked)
        except queue.Full:
            raise Busy(f"{self._limits.waiting} questions are waiting already") from None
        try:
            answer = asyncio.wrap_future(asked.answer)
            return await asyncio.wait_for(answer, self._limits.seconds)
        except asyncio.TimeoutError:
            raise TooSlow(f"there is no answer after {self._limits.seconds:g} seconds") from None

    def close(self) -> None:
        """Answer what waits, for as long as an answer may take, and end the thread."""
        if not self._is_closed:
            self._is_closed = True
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=self._limits.seconds)
        self._thread.join(self._limits.seconds)

    def _run(self) -> None:
        is_last = False
        while not is_last and (first := self._queue.get()) is not None:
            batch, is_last = self._gathered(first)
            self._answer([a for a in batch if a.answer.set_running_or_notify_cancel()])

    def _gathered(self, first: _Asked) -> tuple[list[_Asked], bool]:
        """A question with those that come in time, and whether no more will come."""
        batch = [first]
        while len(batch) < self._limits.batch:
            left = first.came + self._limits.gather_seconds - time.monotonic()
            try:
                asked = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if asked is None:
                return batch, True
            batch.append(asked)
        return batch, False

    def _answer(self, batch: list[_Asked]) -> None:
        if not batch:
            return
        self._note(len(batch))
        try:
            answers = self._answer_all([asked.question for asked in batch])
        except Exception as error:
            answers = [error] * len(batch)
        for asked, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                asked.answer.set_exception(answer)
            else:
                asked.answer.set_result(answer)
