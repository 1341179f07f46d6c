"""A stage in a process of its own, for `watched.py` to watch: JSON lines on its standard output.

{"ready": true}                  modules are imported and the device is awake
{"plan": [{"name": ...}, ...]}   what is going to be checked, in this order
{"start": name}                  what begins now: if the process dies, this is what killed it
{"result": {"name": ...}}        one result
{"cell": name}                   everything of one cell is said, and need not be measured again
{"note": text}                   a sign of life

Everything else that it prints is what others have to say, a compiler or an aborting library.
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
    """One thing to find out: what `run` returns is its result, and what it raises its failure.

    facts: what it is about, such as kernels, dtype and D; they stand in its result too.
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
    """What a longer measurement calls, so that nobody takes it to hang."""
    emit(note=text)


def synchronize(device: str) -> None:
    """Wait for the device, and raise what its kernels left behind."""
    gpu_device.synchronize(torch.device(device))


def is_lost(device: str) -> bool:
    """Whether the device is lost to this process, so that every later call would fail as well.

    Only the device knows, whatever the text of an error says.
    """
    try:
        synchronize(device)
    except Exception:
        return True
    return False


def run_checks(checks: Iterable[Check], device: str) -> None:
    """Emit the result of every check; ends the process at the one that loses the device."""
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
    """argv: a stage and its request as JSON, in which "device" may name one of several GPUs."""
    stage, request = sys.argv[1:] if argv is None else argv
    if stage not in STAGES:
        raise ValueError(f"stage must be one of {STAGES}, got {stage!r}")
    faulthandler.enable(sys.stderr)
    run = importlib.import_module(f"fastclip.benchmarks.gpu.{stage}").run
    arguments = json.loads(request)
    arguments["device"] = _awake(arguments["device"])
    torch.set_float32_matmul_precision(DEFAULT_PRECISION)  # of which verdicts are, whatever is set
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
