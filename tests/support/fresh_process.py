"""Code in a process that has imported torch and nothing else: a fork of one that waits for it.

An import of torch takes two seconds, a fork of what has done it a hundredth of one.
"""

import json
import os
import subprocess
import sys
import tempfile
import textwrap

WAITING = """
import json, os, sys, traceback, warnings
import torch

def run(code, environment, directory, output):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    for descriptor, path in output:
        os.dup2(os.open(path, os.O_WRONLY), int(descriptor))
    warnings.simplefilter("error")
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        return 0
    except SystemExit as stop:
        return stop.code or 0
    except BaseException:
        traceback.print_exc()
        return 1

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        status = run(*json.loads(line))
        sys.stdout.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class FreshProcesses:
    """The waiting process starts when it is first needed; a warning is an error in its forks."""

    def __init__(self) -> None:
        self.waiting: subprocess.Popen | None = None

    def run(self, code: str) -> subprocess.CompletedProcess:
        """Run code with the present environment and directory; its exit status is an int."""
        if self.waiting is None:
            self.waiting = subprocess.Popen(
                [sys.executable, "-c", WAITING],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        code = textwrap.dedent(code)
        with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as errors:
            names = ((1, out.name), (2, errors.name))
            print(
                json.dumps([code, dict(os.environ), os.getcwd(), names]),
                file=self.waiting.stdin, flush=True,
            )  # fmt: skip
            status = int(self.waiting.stdout.readline())
            return subprocess.CompletedProcess(code, status, out.read(), errors.read())

    def close(self) -> None:
        if self.waiting is not None:
            self.waiting.communicate()
