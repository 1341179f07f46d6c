"""The signals that end a run: received at once, obeyed at a point where nothing is lost.

    SIGTERM, SIGINT (Ctrl-C), SIGHUP (the terminal is gone), SIGUSR1 (Slurm's --signal=USR1@120)

A signal interrupts work that a run can repeat, which is waiting for data and evaluating. It does
not interrupt a step, nor a checkpoint that is being written; both are short. Before ranks do
anything together they agree whether one of them has received a signal, so that no rank waits for
one that has left. A signal to all ranks, as torchrun, srun and a terminal send it, ends the run
after at most one step. A signal to a single rank ends the run as soon as the other ranks have the
data of their next step.

A second SIGINT ends the process at once, whatever it is doing. A thread listens for it, because
Python calls handlers only between two instructions of the main thread, which may be waiting for
another rank.
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
INTERRUPTED = 128 + signal.SIGINT  # the exit status that a shell gives a program ended by SIGINT
# One Ctrl-C may arrive twice: from the terminal, and from a program that started this one.
SECONDS_OF_ONE = 1.0
HOW_AT_ONCE = "a second SIGINT (Ctrl-C) ends it at once, without saving"


class ToldToStop(Exception):
    """Raised on all ranks at the same place to end the run, once a rank has received a signal.

    Attributes:
        signal: the first of `SIGNALS` that a rank has received.
        status: the exit status that a shell gives to a program which this signal has ended.
    """

    def __init__(self, heard: signal.Signals) -> None:
        super().__init__(f"told to stop by {heard.name}")
        self.signal = heard
        self.status = 128 + heard


class _CutOff(BaseException):
    """Interrupts the work that a signal found; handlers of `Exception` do not catch it."""


class StopSignals:
    """A context that receives the signals which end a run, so that none of them ends the process.

    A signal that is ignored when the context is entered, as SIGHUP is under `nohup`, stays ignored.
    In another thread than the main one, the context receives no signals.
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
        """Return what `work` returns, if no rank receives a signal before all have done their work.

        Args:
            work: what this rank does by itself, without other ranks. It may be interrupted
                anywhere: nothing that it changes may be used afterwards.

        Raises:
            ToldToStop: a rank has received a signal.
        """
        return self.obey_and_exchange(work, ())[0]

    def obey_and_exchange(
        self, work: Callable[[], T], flags: Sequence[bool]
    ) -> tuple[T, list[bool]]:
        """Do as `obey`, and also return for each flag whether it is set on any rank.

        Both take a single exchange between the ranks.
        """
        found = self._unless_heard(work)
        heard = [number in self._heard for number in SIGNALS]
        shared = self._ranks.any([*heard, *flags])
        told = [number for number, is_heard in zip(SIGNALS, shared, strict=False) if is_heard]
        if told:
            raise ToldToStop(told[0])
        return found, shared[len(SIGNALS) :]

    def _unless_heard(self, work: Callable[[], T]) -> T | None:
        """Return what `work` returns; None if a signal came before it or interrupted it."""
        found = None
        try:
            try:
                self._may_be_cut_off = True
                if not self._heard:
                    found = work()
            finally:
                self._may_be_cut_off = False
        except _CutOff:  # perhaps from a signal that came just after the work was done
            pass
        return found

    def _hear(self, number: int, frame: object) -> None:
        self._heard.add(number)
        # A worker that was just forked must not raise. Every further signal raises again, because
        # an exception that is raised in a destructor is lost.
        if self._may_be_cut_off and os.getpid() == self._process:
            raise _CutOff


class _Listener(threading.Thread):
    """Receives every signal as it comes, says what will follow, and obeys a second SIGINT.

    Args:
        is_first: only the first rank says what will follow.
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
                _tell(
                    f"received {signal.Signals(number).name}: the run saves and stops; "
                    f"{HOW_AT_ONCE}"
                )
            is_told = True
        self._ours.close()


def _end_at_once() -> None:
    _tell(
        "a second SIGINT has ended the run at once: the steps since its last checkpoint are lost; "
        "--resume latest continues from that checkpoint"
    )
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(INTERRUPTED)


def _tell(text: str) -> None:
    """Write to standard error, unless nobody reads it: waiting for a reader would block the end."""
    try:
        descriptor = sys.stderr.fileno()
        if select.select([], [descriptor], [], 0)[1]:
            os.write(descriptor, f"fastclip train: {text}\n".encode())
    except (OSError, ValueError, AttributeError):  # standard error is closed, or is not a file
        pass
