"""Run a stage in its own process, which `watched.py` watches: JSON lines on standard output.

{"ready": true}                  modules are imported and the device is awake
{"plan": [{"name": ...}, ...]}   the checks that will run, in this order
{"start": name}                  this check begins: if the process dies now, it is the cause
{"result": {"name": ...}}        one result
{"cell": name}                   a cell is finished and need not be measured again
{"note": text}                   a sign of life

Everything else comes from others, such as a compiler or an aborting library.
"""

import faulthandler
import importlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from fastclip.backends.gpu import device as gpu_device
from fastclip.backends.gpu.precision import DEFAULT_PRECISION
from fastclip.benchmarks.measure import describe

LOST = 3  # exit status of a process that has lost the device
STAGES = ("correctness", "ceilings", "speed", "training", "comparison", "first", "verify.measure")
REASON_CHARACTERS = 300


class Check(NamedTuple):
    """One check: `run` returns its result, or raises an exception if the check fails.

    facts: the kernels, dtype, D and so on that it is about, which are part of its result too.
    """

    name: str
    run: Callable[[], dict[str, Any] | None]
    facts: Mapping[str, Any] = MappingProxyType({})

    @property
    def line(self) -> dict[str, Any]:
        return {"name": self.name, **self.facts}


def emit(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def sign_of_life(text: str) -> None:
    """Emit a note, so that a long measurement is not taken for a hang."""
    emit(note=text)


def synchronize(device: str) -> None:
    """Wait for the device, and raise the errors of its kernels."""
    gpu_device.synchronize(torch.device(device))


def is_lost(device: str) -> bool:
    """Return whether this process has lost the device, so that every later call would fail.

    This asks the device, because the text of an error does not say it reliably.
    """
    try:
        synchronize(device)
    except Exception:
        return True
    return False


def run_checks(checks: Iterable[Check], device: str) -> None:
    """Emit the result of every check; end the process if a check loses the device."""
    every = list(checks)
    emit(plan=[check.line for check in every])
    for check in every:
        emit(start=check.name)
        try:
            found = {"passed": True, **(check.run() or {})}
            synchronize(device)
        except Exception as error:
            found = {"passed": False, "reason": describe(error)[:REASON_CHARACTERS]}
            if is_lost(device):
                emit(result={**check.line, **found, "fatal": True})
                raise SystemExit(LOST) from error
        emit(result={**check.line, **found})


def main(argv: list[str] | None = None) -> None:
    """Run a stage; argv is its name and its request, JSON whose "device" may be "cuda:1"."""
    stage, request = sys.argv[1:] if argv is None else argv
    if stage not in STAGES:
        raise ValueError(f"stage must be one of {STAGES}, got {stage!r}")
    faulthandler.enable(sys.stderr)
    run = importlib.import_module(f"fastclip.benchmarks.gpu.{stage}").run
    arguments = json.loads(request)
    arguments["device"] = _awake(arguments["device"])
    torch.set_float32_matmul_precision(DEFAULT_PRECISION)  # the precision of verdicts
    emit(ready=True)
    run(**arguments)


def _awake(device: str) -> str:
    """Make this device the current one, and return its type."""
    if device.startswith("cuda"):
        torch.cuda.set_device(torch.device(device).index or 0)
    kind = torch.device(device).type
    torch.zeros(1, device=kind)
    synchronize(kind)
    return kind


if __name__ == "__main__":
    main()
