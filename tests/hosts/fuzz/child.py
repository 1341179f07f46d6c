"""Reads inputs of a fuzz target one after the other, until one of them fails; see `harness.py`.

python -m tests.hosts.fuzz.child TARGET FOLDER '{"seed": 0, "first": 0, "seconds": 60, "limit": 5}'
python -m tests.hosts.fuzz.child TARGET FILE

An input lies in a folder of its own number while it is read, and is still there if it ended the
process or failed.
"""

import faulthandler
import gc
import importlib
import json
import random
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from fastclip.process_memory import rise_bytes
from tests.hosts.fuzz.harness import MAX_MESSAGE, MEMORY, SECONDS
from tests.hosts.fuzz.mutations import mutate_bytes


class Failure(Exception):
    """An input that the reader should have taken or refused."""


def read_one(target: ModuleType, path: Path, limit: int) -> None:
    """Let the target read a file, within the limits.

    Raises:
        Failure: it raised what it does not document, or took too much memory. More than `limit`
            seconds end the process.
    """
    faulthandler.dump_traceback_later(limit, exit=True)
    try:
        rise = rise_bytes(lambda: _read(target, path))
    finally:
        faulthandler.cancel_dump_traceback_later()
    if rise > MEMORY:
        raise Failure(f"memory rose by {rise / 2**20:.0f} MiB")


def _read(target: ModuleType, path: Path) -> None:
    try:
        target.read(path)
    except target.ALLOWED as error:
        if len(str(error)) > MAX_MESSAGE:
            raise Failure(f"an error of {len(str(error))} characters: {error!s:.300}") from error


def run(
    target: ModuleType, folder: Path, seed: int, first: int, end: int, seconds: float, limit: int
) -> int:
    """Read inputs from number `first` on, before number `end`; return how many were read."""
    mutate: Callable = getattr(target, "mutate", mutate_bytes)
    seeds, stop, number = target.seeds(), time.monotonic() + seconds, first
    _bound_memory()
    gc.collect()
    gc.freeze()  # what there is now is not looked at again, for every input
    while number < end and time.monotonic() < stop:
        rng = random.Random(f"{seed} {number}")
        # The seeds themselves come first: they are valid, and must be read.
        data = seeds[number] if number < len(seeds) else mutate(rng.choice(seeds), rng)
        place = folder / f"{number:08d}"
        place.mkdir()
        path = place / f"input{getattr(target, 'SUFFIX', '')}"
        path.write_bytes(data)
        read_one(target, path, limit)
        shutil.rmtree(place)
        number += 1
    return number - first


def _bound_memory() -> None:
    """Let an allocation fail that is far beyond the limit, before the machine does."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2 * MEMORY, -1))


def main() -> None:
    name, place, *order = sys.argv[1:]
    target = importlib.import_module(name if "." in name else f"tests.hosts.fuzz.targets.{name}")
    faulthandler.enable()
    warnings.simplefilter("ignore")
    if order:
        print(run(target, Path(place), **json.loads(order[0])))
    else:
        read_one(target, Path(place), SECONDS)


if __name__ == "__main__":
    main()
