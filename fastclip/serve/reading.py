"""Read files of images and of metadata in threads other than the model's."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fastclip.serve.limits import Limits
from fastclip.serve.refusal import Refusal

THREADS = 2


class Readers:
    """A few threads that read files; the number of requests that wait for them is limited."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._threads = ThreadPoolExecutor(THREADS, "reading")
        self._free = threading.Semaphore(limits.waiting)

    async def do(self, work: Callable[..., Any], *args: Any) -> Any:
        """Call a function in a thread, and return its result.

        Raises:
            Refusal: too many requests wait already, the work takes too long, or the server is about
                to stop.
        """
        if not self._free.acquire(blocking=False):
            raise Refusal(
                503, f"{self._limits.waiting} requests wait for images or rows already; try later"
            )
        future = self._submitted(work, args)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._limits.seconds)
        except asyncio.TimeoutError:
            seconds = f"{self._limits.seconds:g} seconds"
            raise Refusal(504, f"there is no answer after {seconds}") from None

    def close(self) -> None:
        """Let the threads finish the work that has begun, and cancel the rest."""
        self._threads.shutdown(cancel_futures=True)

    def _submitted(self, work: Callable[..., Any], args: tuple[Any, ...]) -> Future:
        try:
            future = self._threads.submit(work, *args)
        except RuntimeError:
            self._free.release()
            raise Refusal(503, "the server is about to stop") from None
        future.add_done_callback(lambda _: self._free.release())
        return future
