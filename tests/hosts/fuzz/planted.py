"""A target that goes wrong in the way that its input says, to try the harness with."""

import os
import signal
import time
from pathlib import Path

ALLOWED = (ValueError,)
WAYS = (b"fine", b"refused", b"crash", b"hang", b"memory", b"no memory", b"other", b"text")


def seeds() -> list[bytes]:
    return list(WAYS)


def mutate(data: bytes, rng: object) -> bytes:
    return b"fine"


def read(path: Path) -> None:
    way = path.read_bytes()
    if way == b"refused":
        raise ValueError("refused")
    if way == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if way == b"hang":
        time.sleep(9)
    if way == b"memory":
        bytearray(b"x") * (600 * 2**20)
    if way == b"no memory":
        bytearray(2**40)
    if way == b"other":
        {}["missing"]
    if way == b"text":
        raise ValueError("x" * 5000)
