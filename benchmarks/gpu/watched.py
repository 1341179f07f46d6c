"""Watch a process that may die or hang: its lines until then, and how it ended.

Kernels that have never run on a device may hang it, or make it unusable for their process. So every
stage of gpu-first, gpu-check and `fastclip verify` runs in its own process (`worker.py`), if
possible one per set of kernels. If a process says nothing for longer than its `Patience`, it is
assumed to hang and killed; only this time is lost, and the next process starts afresh.
"""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from fastclip.benchmarks.gpu.worker import LOST

DONE, DIED, HUNG, LOST_DEVICE, OUT_OF_TIME = "done", "died", "hung", "lost", "out of time"
LAST_LINES = 40  # other lines of a process that are kept: a stack, if it crashed
LINE_CHARACTERS = 200
END_SECONDS = 10.0  # for a process to end after its last line or a kill
MAX_RESTARTS = 8


@dataclass(frozen=True)
class Patience:
    """The seconds without a line after which a process is assumed to hang."""

    line: float
    start: float = 100.0  # before the first line: imports and the start of the device


AHEAD_OF_TIME = Patience(20.0)
COMPILING = Patience(60.0)  # where Triton or torch.compile may be at work


@dataclass(frozen=True)
class Ending:
    """How a process ended.

    Args:
        how: DONE, DIED, HUNG, LOST_DEVICE or OUT_OF_TIME.
        at: the check that had begun last, or None.
        detail: a line: the exit status for DIED, the seconds for HUNG.
        last_words: for DIED, the last lines that it printed, for example a stack.
    """

    how: str
    at: str | None = None
    detail: str = ""
    last_words: str = ""

    @property
    def is_fatal(self) -> bool:
        return self.how in (DIED, HUNG, LOST_DEVICE)

    def __str__(self) -> str:
        said = {
            DONE: "ended well",
            DIED: "took its process down",
            HUNG: "hung",
            LOST_DEVICE: "lost the device",
            OUT_OF_TIME: "out of time",
        }[self.how]
        return f"{said}: {self.detail}" if self.detail else said


class Watched:
    """Iterates over the lines of a stage's process; afterwards, `ending` says how it ended."""

    ending: Ending

    def __init__(
        self,
        stage: str,
        request: dict[str, Any],
        patience: Patience,
        end: float,
        has_patience: bool = False,
    ) -> None:
        """
        Args:
            end: the `time.monotonic()` at which the process is stopped.
            has_patience: let a check that has begun by then use its patience, so that a hang is
                not reported as lack of time; the first line after `end` is the last.
        """
        self.stage, self.request, self.patience, self.end = stage, request, patience, end
        self.has_patience = has_patience

    def __iter__(self) -> Iterator[dict[str, Any]]:
        process = start_worker(self.stage, self.request)
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
        reader.start()
        at, last_words = None, deque(maxlen=LAST_LINES)
        seconds = self.patience.start
        hangs_at = time.monotonic() + seconds
        try:
            while True:
                now = time.monotonic()
                waits_past_end = self.has_patience and at is not None
                stops_at = hangs_at if waits_past_end else min(hangs_at, self.end)
                try:
                    text = lines.get(timeout=max(0.0, stops_at - now))
                except queue.Empty:
                    in_time = stops_at == hangs_at
                    detail = f"nothing for {seconds:g} s" if in_time else ""
                    self.ending = Ending(HUNG if in_time else OUT_OF_TIME, at, detail)
                    return
                if text is None:
                    self.ending = _ending(process, at, list(last_words))
                    return
                line = _parsed(text)
                if line is None:
                    last_words.append(text)
                    continue
                seconds = self.patience.line
                hangs_at = time.monotonic() + seconds
                at = line.get("start", at)
                yield line
                if waits_past_end and time.monotonic() > self.end:
                    self.ending = Ending(OUT_OF_TIME, at)
                    return
        finally:
            process.kill()
            _wait(process)
            reader.join(END_SECONDS)


def start_worker(stage: str, request: dict[str, Any]) -> subprocess.Popen:
    command = [sys.executable, "-m", "fastclip.benchmarks.gpu.worker", stage, json.dumps(request)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )


def watch_checks(
    stage: str,
    request: dict[str, Any],
    patience: Patience,
    end: float,
    record: Callable[[dict[str, Any]], None],
) -> Ending:
    """Record the results of a stage that announces its checks, one result per check.

    A check that the process did not survive has failed; checks that had not begun did not run, and
    have neither passed nor failed (None).
    """
    about = {name: request[name] for name in ("kernels",) if name in request}
    # Before the plan is known, only the start can fail.
    planned: dict[str | None, dict[str, Any]] = {None: {"name": f"start of {stage}", **about}}
    process = Watched(stage, request, patience, end, has_patience=True)
    for line in process:
        if "plan" in line:
            planned = {row["name"]: row for row in line["plan"]}
        elif "result" in line:
            planned.pop(line["result"]["name"], None)
            record(line["result"])
    ending = process.ending
    if ending.how in (DIED, HUNG) and ending.at not in planned:  # its check had ended
        planned = {ending.at: {"name": f"after {ending.at}", **about}, **planned}
    where = f" at {ending.at}" if ending.is_fatal else ""
    for name, row in planned.items():
        if ending.is_fatal and name == ending.at:
            output = {"output": ending.last_words} if ending.last_words else {}
            record({**row, "passed": False, "reason": str(ending), "fatal": True, **output})
        else:
            record({**row, "passed": None, "reason": f"not run: {ending.how}{where}"})
    return ending


def watch_cells(
    stage: str,
    request: dict[str, Any],
    patience: Patience,
    end: float,
    record: Callable[[dict[str, Any]], None],
) -> list[Ending]:
    """Record the results of a stage that compares several candidates, cell by cell.

    After a crash, the stage starts again without the candidate that crashed it, and without the
    finished cells. Returns how its processes ended, in their order.
    """
    without, done, endings = list(request.get("without", ())), [], []
    for _ in range(MAX_RESTARTS):
        seconds = end - time.monotonic()
        again = {**request, "without": without, "done": done, "seconds": seconds}
        process = Watched(stage, again, patience, end)
        for line in process:
            if "cell" in line:
                done.append(line["cell"])
            elif "result" in line:
                record(line["result"])
        endings.append(process.ending)
        if not process.ending.is_fatal or process.ending.at is None:
            break
        without.append(process.ending.at)
    return endings


def _read(output: IO[str], lines: queue.SimpleQueue) -> None:
    with output:
        for line in output:
            lines.put(line)
    lines.put(None)


def _parsed(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _ending(process: subprocess.Popen, at: str | None, last_lines: list[str]) -> Ending:
    """Return the ending of a process that has closed its output."""
    status = _wait(process)
    if status is None:
        return Ending(HUNG, at, "does not end")
    if status == 0:
        return Ending(DONE, at)
    if status == LOST:
        return Ending(LOST_DEVICE, at)
    last_words = "".join(line[:LINE_CHARACTERS].rstrip() + "\n" for line in last_lines)
    if status < 0:
        return Ending(DIED, at, signal.Signals(-status).name, last_words)
    said = last_words.splitlines()[-1:]  # of an exception, what it is
    return Ending(DIED, at, ". ".join([f"exit status {status}", *said]), last_words)


def _wait(process: subprocess.Popen) -> int | None:
    """Return the exit status; None if the process hangs in the driver and cannot be killed."""
    try:
        return process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        return None
