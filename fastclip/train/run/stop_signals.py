"""The signals that end a run: heard at once, obeyed where nothing is lost.

    SIGTERM, SIGINT (Ctrl-C), SIGHUP (the terminal is gone), SIGUSR1 (Slurm's --signal=USR1@120)

What a run can do again, waiting for data and evaluating, is cut off. A step and a checkpoint that
is being written are not, and are short. Before anything that ranks do together they agree whether
one of them was told to stop, so that none waits for one that has left: a signal that all ranks get,
as torchrun, srun and a terminal send it, ends the run after at most a step. One that a single rank
gets ends the run too, as soon as the other ranks have the data of their next step.

A second SIGINT ends the process at once, whatever it is doing. Who listens for it is a thread, as
Python calls handlers only between two instructions of the main thread, and that may wait in an
exchange for another rank.
"""

import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from fastclip.distributed.processes import Processes

T = TypeVar("T")

# Windows has only the first two.
NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
INTERRUPTED = 128 + signal.SIGINT  # what a shell says of a program that SIGINT has ended
# One Ctrl-C may come twice: from the terminal, and from a program that started this one.
SECONDS_OF_ONE = 1.0
HOW_AT_ONCE = "SIGINT (Ctrl-C) a second time ends it at once, without saving"


class ToldToStop(Exception):
    """A signal that a rank has heard ends the run; it is raised on all ranks at the same place.

    Attributes:
        signal: the first of `SIGNALS` that a rank has heard.
        status: the exit status that a shell gives to a program which it ended.
    """

    def __init__(self, heard: signal.Signals) -> None:
        super().__init__(f"told to stop by {heard.name}")
        self.signal = heard
        self.status = 128 + heard


class _CutOff(BaseException):
    """Leaves what was going on when a signal came; nobody who catches an `Exception` holds it."""


class StopSignals:
    """In this context the signals that end a run are heard, and none ends the process.

    One that is ignored when the context is entered, as `nohup` does with SIGHUP, stays ignored. In
    a thread that is not the main one, nothing is heard.
    """

    def __init__(self, processes: Processes) -> None:
        self._ranks = processes
        self._heard: set[int] = set()
        self._may_be_cut_off = False
        self._process = os.getpid()
        self._handlers: dict[int, object] = {}
        self._listener: _Listener | None = None

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._listener = _Listener(is_first=self._ranks.is_first)
            heeded = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, self._hear) for number in heeded}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._listener is not None:
            self._listener.close()

    def obey(self, work: Callable[[], T]) -> T:
        """What `work` returns, if no rank is told to stop before all have done theirs.

        Args:
            work: what this rank does by itself, without other ranks. It may be left anywhere:
                nothing that it changes may be used afterwards.

        Raises:
            ToldToStop: a rank is told to stop.
        """
        return self.obey_and_exchange(work, ())[0]

    def obey_and_exchange(
        self, work: Callable[[], T], flags: Sequence[bool]
    ) -> tuple[T, list[bool]]:
        """`obey`, and for each flag whether it is set on any rank, by the same exchange."""
        found = self._unless_heard(work)
        heard = [number in self._heard for number in SIGNALS]
        shared = self._ranks.any([*heard, *flags])
        told = [number for number, is_heard in zip(SIGNALS, shared, strict=False) if is_heard]
        if told:
            raise ToldToStop(told[0])
        return found, shared[len(SIGNALS) :]

    def _unless_heard(self, work: Callable[[], T]) -> T | None:
        """What `work` returns; None if a signal was heard before it, or has cut it off."""
        found = None
        try:
            try:
                self._may_be_cut_off = True
                if not self._heard:
                    found = work()
            finally:
                self._may_be_cut_off = False
        except _CutOff:  # maybe of a signal that came as the work was just done
            pass
        return found

    def _hear(self, number: int, frame: object) -> None:
        self._heard.add(number)
        # Not in a worker that was just forked; and again for another signal, as an exception that
        # hits a destructor is lost.
        if self._may_be_cut_off and os.getpid() == self._process:
            raise _CutOff


class _Listener(threading.Thread):
    """Is told of every signal as it comes, says what will follow, and obeys a second SIGINT.

    Args:
        is_first: of several ranks, one says it.
    """

    def __init__(self, is_first: bool) -> None:
        super().__init__(name="stop signals", daemon=True)
        self._is_first = is_first
        self._ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._theirs = theirs
        self._former = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self.start()

    def close(self) -> None:
        signal.set_wakeup_fd(self._former)
        self._theirs.shutdown(socket.SHUT_RDWR)  # ends the thread; workers may have it open too
        self.join()
        self._theirs.close()

    def run(self) -> None:
        is_told, interrupted_at = False, None
        while received := self._ours.recv(1):
            number = received[0]  # of any signal that has a handler
            if number not in SIGNALS:
                continue
            now = time.monotonic()
            if number == signal.SIGINT:
                interrupted_at = interrupted_at or now
                if now - interrupted_at > SECONDS_OF_ONE:
                    _end_at_once()
            if not is_told and self._is_first:
                _tell(f"{signal.Signals(number).name}: the run saves and stops; {HOW_AT_ONCE}")
            is_told = True
        self._ours.close()


def _end_at_once() -> None:
    _tell(
        "a second SIGINT has ended the run at once: steps since its last checkpoint are lost; go "
        "on with --resume latest"
    )
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(INTERRUPTED)


def _tell(text: str) -> None:
    """Write to standard error, unless nobody reads it: who waits for a reader does not end."""
    try:
        descriptor = sys.stderr.fileno()
        if select.select([], [descriptor], [], 0)[1]:
            os.write(descriptor, f"fastclip train: {text}\n".encode())
    except (OSError, ValueError, AttributeError):  # it is closed, or no file
        pass
