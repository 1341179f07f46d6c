"""Measure the peak memory of one provider on one case, beyond its inputs and their gradients.

A process keeps memory that it once had, so each measurement has a fresh process (`python -m` this
module), which does the following:

    1. It calls the provider on a small case, which loads libraries and their fixed buffers; for a
       compiled provider at full size, because otherwise the compiler's memory would be measured.
    2. It makes the inputs, gives freed memory back to the system, and resets the high-water mark.
    3. It runs one forward and backward.
    4. extra = high-water mark - memory before the call - bytes of the gradients

`fastclip/process_memory.py` says what counts as memory, and where the mark cannot be reset.
"""

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import torch

from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.providers import find_provider
from fastclip.benchmarks.results import case_from_json, case_to_json
from fastclip.benchmarks.step import Step
from fastclip.process_memory import rise_bytes

WARM_UP_N = 256


class MemoryNotMeasured(RuntimeError):
    """Raised if the provider failed in its process; the message says how."""


class KilledForMemory(MemoryNotMeasured):
    """Raised if the system killed the process: a call in this process would kill it as well."""


def extra_bytes(provider: Provider, case: Case) -> int:
    """Return the peak bytes beyond inputs and gradients, with this process's number of threads.

    Raises:
        KilledForMemory: the system killed the child process.
        MemoryNotMeasured: the child process failed.
    """
    request = {
        "objective": provider.objective,
        "provider": provider.name,
        "case": case_to_json(case),
        "threads": torch.get_num_threads(),
        "path": sys.path,  # so that the child finds users' modules as this process does
    }
    child = subprocess.run(
        [sys.executable, "-m", __name__, json.dumps(request)], capture_output=True, text=True
    )
    if child.returncode == -signal.SIGKILL:
        raise KilledForMemory("killed, most likely because there was not enough memory")
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines()
        raise MemoryNotMeasured(lines[-1] if lines else f"exit status {child.returncode}")
    return json.loads(child.stdout.splitlines()[-1])["extra_bytes"]


def extra_bytes_here(provider: Provider, case: Case) -> int:
    """Return the same, measured in this process: reused memory of earlier calls is not counted.

    Raises:
        MemoryNotMeasured: the provider raised.
    """
    try:
        return _measured(provider, case)
    except Exception as error:
        raise MemoryNotMeasured(f"{type(error).__name__}: {error}") from error


def peak_beyond_gradients(step: Step) -> int:
    return max(0, rise_bytes(step) - sum(x.nbytes for x in step.leaves))


def main(request: str) -> None:
    wanted = json.loads(request)
    _volunteer_for_the_oom_killer()
    torch.set_num_threads(wanted["threads"])
    sys.path += [folder for folder in wanted["path"] if folder not in sys.path]
    provider = find_provider(wanted["objective"], wanted["provider"])
    print(json.dumps({"extra_bytes": _measured(provider, case_from_json(wanted["case"]))}))


def _measured(provider: Provider, case: Case) -> int:
    warm_up_N = case.N if provider.compiled else min(case.N, WARM_UP_N)
    Step(provider, dataclasses.replace(case, N=warm_up_N))()
    return peak_beyond_gradients(Step(provider, case))


def _volunteer_for_the_oom_killer() -> None:
    """Ask the system to kill this process, and not its parent, if memory runs out."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass


if __name__ == "__main__":
    main(sys.argv[1])
