"""A worker of `benchmarks/gpu` as a fork of this process, in the place of one that starts anew.

It costs nothing to start and has what the test has: an emulator, an interpreter, planted kernels.
"""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from typing import Any

import torch

from fastclip.benchmarks.gpu import worker


class ForkedWorker:
    """What `watched.start_worker` returns: of a Popen, what is used there."""

    def __init__(self, stage: str, request: dict[str, Any]) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _run(stage, request, writing)
        os.close(writing)
        self.stdout = open(reading, errors="replace")
        self.returncode: int | None = None

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                raise subprocess.TimeoutExpired("forked worker", timeout)
            else:
                time.sleep(0.005)
        return self.returncode


def _run(stage: str, request: dict[str, Any], output: int) -> None:
    """Does not return."""
    status = 1
    try:
        faulthandler.disable()  # pytest's, which writes to a terminal
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)
        # Threads of a pool are not there after a fork.
        torch.set_num_threads(1)
        worker.main([stage, json.dumps(request)])
        status = 0
    except SystemExit as error:
        status = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)
