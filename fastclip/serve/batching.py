"""Answer the questions of many clients together, in one thread, which alone uses the model.

A question waits up to 5 ms for others, counted from its arrival; if the model was busy meanwhile,
the time is over already, and the questions that have gathered are answered at once. The oldest
question is always answered next, along with the smallest others that there is room for. Large
questions of one client therefore do not hold up small ones of others, nor wait forever behind them.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastclip.serve.limits import Limits


class Busy(Exception):
    """Too many questions are waiting, or the server is stopping and takes no more."""


class TooSlow(Exception):
    """A question was not answered in time."""


class Size(NamedTuple):
    """The numbers of images and texts that the model encodes for a question."""

    images: int = 0
    texts: int = 0


@dataclass(frozen=True, eq=False)
class _Asked:
    question: Any
    size: Size
    answer: concurrent.futures.Future = field(default_factory=concurrent.futures.Future)
    came: float = field(default_factory=time.monotonic)


class Batcher:
    """Gathers questions into batches, and answers them in a thread of its own.

    Attributes:
        num_waiting: the number of questions that wait for the model.

    Args:
        answer_all: called in the thread with a batch of questions; returns for each its answer or
            its error. If it raises an error, that is the error of all questions in the batch.
        limits: limits of size and time.
        note: called in the thread with the number of questions of each batch.
        size_of: returns how many images and texts the model encodes for a question.

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
        size_of: Callable[[Any], Size] = lambda question: Size(),
    ) -> None:
        self._answer_all, self._limits, self._note = answer_all, limits, note
        self._size_of = size_of
        self._waiting: list[_Asked] = []  # the oldest first
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    async def ask(self, question: Any) -> Any:
        """Return the answer to a question, or raise its error.

        If the caller is cancelled before the work on the question has begun, the question is
        dropped.

        Raises:
            Busy: too many questions are waiting, or the batcher is closed.
            TooSlow: there is no answer within `Limits.seconds`.
        """
        asked = _Asked(question, self._size_of(question))
        with self._changed:
            if self._is_closed:
                raise Busy("the server is about to stop")
            if len(self._waiting) >= self._limits.waiting:
                raise Busy(f"{self._limits.waiting} questions are waiting already; try again later")
            self._waiting.append(asked)
            self._changed.notify()
        try:
            answer = asyncio.wrap_future(asked.answer)
            return await asyncio.wait_for(answer, self._limits.seconds)
        except asyncio.TimeoutError:
            raise self._too_slow() from None
        finally:
            with self._changed, contextlib.suppress(ValueError):
                self._waiting.remove(asked)

    def close(self) -> None:
        """Answer the waiting questions, for as long as an answer may take, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(self._limits.seconds)

    def _run(self) -> None:
        while not self._is_closed or self._waiting:
            self._answer([a for a in self._next() if a.answer.set_running_or_notify_cancel()])

    def _next(self) -> list[_Asked]:
        """Wait until a batch has gathered and return it; it is empty if nobody waits any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if self._waiting:
                left = self._waiting[0].came + self._limits.gather_seconds - time.monotonic()
                self._changed.wait_for(self._has_gathered, max(0.0, left))
            self._drop_late()
            batch = self._chosen()
            self._waiting = [asked for asked in self._waiting if asked not in batch]
            return batch

    def _has_gathered(self) -> bool:
        return self._is_closed or len(self._waiting) >= self._limits.batch

    def _drop_late(self) -> None:
        """Give waiting questions whose time is over the error TooSlow."""
        oldest = time.monotonic() - self._limits.seconds
        late = [asked for asked in self._waiting if asked.came <= oldest]
        self._waiting = self._waiting[len(late) :]
        for asked in late:
            if asked.answer.set_running_or_notify_cancel():
                asked.answer.set_exception(self._too_slow())

    def _chosen(self) -> list[_Asked]:
        """Return the oldest question along with the smallest others that there is room for."""
        batch = self._waiting[:1]
        images, texts = self._limits.batch_images, self._limits.batch_texts
        for asked in sorted(self._waiting[1:], key=lambda asked: asked.size):
            if len(batch) == self._limits.batch:
                break
            if asked.size.images <= images and asked.size.texts <= texts:
                images, texts = images - asked.size.images, texts - asked.size.texts
                batch.append(asked)
        return batch

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

    def _too_slow(self) -> TooSlow:
        return TooSlow(f"there is no answer after {self._limits.seconds:g} seconds")
