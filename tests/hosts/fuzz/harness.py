"""Readers of files from strangers, given damaged files for a minute each: none may fall over.

A target is a module in `targets/`, which is found by being there. It has

    ALLOWED         a tuple of the exception types that the reader documents
    seeds()         a list of small valid files, as bytes
    read(path)      reads the file at `path`, which lies alone in a folder of its own; it may raise
                    an `AssertionError` where what it read is not what it should be

and may have

    SUFFIX          of the file's name, such as ".json"
    mutate(data, rng)   a damaged copy of a seed, by default `mutations.mutate_bytes`

Input number i of a seed is always the same. Inputs are read one after the other in a child process
(`child.py`), which starts again behind an input that ended it. An input fails if the reader raises
anything else, or an error whose text is longer than `MAX_MESSAGE`; ends the process; needs more
than `SECONDS`; or makes memory rise by more than `MEMORY`. Failures are kept in `build/fuzz`, and

    python -m tests.hosts.fuzz.child TARGET FILE

reads one of them again. A target is tried with `FASTCLIP_FUZZ_INPUTS` inputs (2,000: the same ones
on every machine, however fast), for at most `FASTCLIP_FUZZ_SECONDS` (60), with the seed
`FASTCLIP_FUZZ_SEED` (0). Whoever changes a reader tries more inputs and another seed.
"""

import json
import os
import pkgutil
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.hosts.fuzz import targets

SECONDS = 5
MEMORY = 2**29
MAX_MESSAGE = 1000  # characters: a line of what is foreign, and what it is in
MOST_FAILURES = 8
KEPT = Path(__file__).parents[3] / "build" / "fuzz"
START = 60  # seconds for a child to import what it reads with


def target_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(targets.__path__))


def failures(
    target: str,
    folder: Path,
    seconds: float,
    seed: int = 0,
    limit: int = SECONDS,
    most: int = MOST_FAILURES,
    inputs: int = sys.maxsize,
) -> list[str]:
    """Read damaged files for so many seconds; say of each failure which input it was and why.

    Args:
        target: a module, by its name in `targets`, or by its full name.
        folder: an empty one, for the inputs.
        limit: seconds for one input.
        most: failures after which it ends.
        inputs: after which it ends too.
    """
    found: list[str] = []
    first, stop = 0, time.monotonic() + seconds
    while len(found) < most and time.monotonic() < stop and first < inputs:
        left = stop - time.monotonic()
        order = {"seed": seed, "first": first, "end": inputs, "seconds": left, "limit": limit}
        done = subprocess.run(
            [sys.executable, "-m", "tests.hosts.fuzz.child", target, folder, json.dumps(order)],
            capture_output=True, text=True, timeout=START + seconds + limit,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        kept = sorted(folder.iterdir())
        if done.returncode == 0 and not kept:
            if not done.stdout.strip().isdecimal():
                raise AssertionError(f"{target}: no input was read: {done.stdout}{done.stderr}")
            return found
        if not kept:
            raise AssertionError(f"{target}: the child failed: {done.stdout}{done.stderr}")
        (place,) = kept
        first = int(place.name) + 1
        found.append(_kept(target, seed, place, _reason(done, limit)))
    return found


def _reason(done: subprocess.CompletedProcess, limit: int) -> str:
    said = done.stderr.strip()
    if said.startswith("Timeout"):
        return f"more than {limit} s, in\n{said}"
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}\n{said}"
    return said


def _kept(target: str, seed: int, place: Path, reason: str) -> str:
    """Move the input out of the folder; return a report."""
    KEPT.mkdir(parents=True, exist_ok=True)
    (file,) = [path for path in place.iterdir() if path.name.startswith("input")]
    kept = KEPT / f"{target.rpartition('.')[2]}-{seed}-{place.name}{file.suffix}"
    shutil.copy(file, kept)
    shutil.rmtree(place)
    return f"{target}, seed {seed}, input {place.name}, kept as {kept}: {reason[-4000:]}"
