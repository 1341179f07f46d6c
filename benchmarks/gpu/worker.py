"""A stage in a process of its own: JSON lines on its standard output, one per result.

{"start": key}                    what begins now: if the process dies, this is what killed it
{"result": {...}, "key": key}     one result
{"note": text}                    progress, for people
"""

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch

from fastclip.benchmarks.measure import describe


def emit(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def is_fatal(error: Exception) -> bool:
    """Whether the device is lost to this process: every later call would fail as well."""
    text = str(error)
    return "CUDA error" in text and not isinstance(error, torch.OutOfMemoryError)


def run_checks(checks: Iterable[tuple[str, Callable[[], dict | None]]], skip: list[str]) -> None:
    """Emit the result of every check; one that returns or raises nothing bad has passed."""
    for name, check in checks:
        if name in skip:
            continue
        emit(start=name)
        try:
            result = {"passed": True, **(check() or {})}
        except Exception as error:
            result = {"passed": False, "reason": describe(error)}
            if is_fatal(error):
                emit(result={"name": name, **result}, key=name)
                raise SystemExit(3) from error
        emit(result={"name": name, **result}, key=name)


def main() -> None:
    """argv: a stage and its request as JSON."""
    from fastclip.benchmarks.gpu import ceilings, comparison, correctness, speed, training

    stages = {
        "correctness": correctness.run,
        "ceilings": ceilings.run,
        "speed": speed.run,
        "comparison": comparison.run,
        "training": training.run,
    }
    stages[sys.argv[1]](**json.loads(sys.argv[2]))


if __name__ == "__main__":
    main()
