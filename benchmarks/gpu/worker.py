"""A stage in a process of its own: JSON lines on its standard output, one per result.

{"start": key}                    what begins now: if the process dies, this is what killed it
{"result": {...}, "key": key}     one result
{"note": text}                    progress, for people
"""

import json
import sys
from typing import Any

import torch


def emit(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def is_fatal(error: Exception) -> bool:
    """Whether the device is lost to this process: every later call would fail as well."""
    text = str(error)
    return "CUDA error" in text and not isinstance(error, torch.OutOfMemoryError)


def main() -> None:
    """argv: a stage and its request as JSON."""
    from fastclip.benchmarks.gpu import ceilings, comparison, correctness

    stages = {
        "correctness": correctness.run,
        "ceilings": ceilings.run,
        "comparison": comparison.run,
    }
    stages[sys.argv[1]](**json.loads(sys.argv[2]))


if __name__ == "__main__":
    main()
