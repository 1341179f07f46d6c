"""Ways to damage a file: of any kind, of JSON, and of a zip archive, whose checksums stay right.

Each takes a file and a random generator, and returns another file.
"""

import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

Mutate = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32,
    2**63 - 1,
    2**63,
    10**30,
)
DIGITS = re.compile(rb"\d+")
MAX_BYTES = 2**18  # of a file; larger ones are cut
NAMES = ("", ".", "..", "../x", "/etc/passwd", "a\0b", "\x1b[31m", "x" * 5000, "\udcff", "weight")


def mutate_bytes(data: bytes, rng: random.Random, words: tuple[bytes, ...] = ()) -> bytes:
    """Change a few places of a file of any kind.

    Args:
        words: of the format, which may mean something wherever they stand.
    """
    found = bytearray(data)
    changes = [_flip, _overwrite, _insert, _remove, _repeat, _number, _digits, _swap]
    for _ in range(rng.choice((1, 1, 2, 3, 5, 12))):
        if words and rng.random() < 0.3:
            at = rng.randint(0, len(found))
            found[at : at + rng.choice((0, 0, 4))] = rng.choice(words)
        else:
            rng.choice(changes)(found, rng)
    if rng.random() < 0.1:
        del found[rng.randint(0, len(found)) :]
    return bytes(found[:MAX_BYTES])


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """Change values of a JSON file; one time in five, bytes."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng, (b"[", b"{", b'"', b"1e999", b"NaN", b"null", b"[" * 3000))
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = _changed(value, rng)
    return json.dumps(value).encode()


def mutate_zip(data: bytes, rng: random.Random, inner: Mutate = mutate_bytes) -> bytes:
    """Change members of an archive, their names, order or number; one time in five, bytes.

    Args:
        inner: changes the contents of a member.
    """
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    for _ in range(rng.choice((1, 1, 2, 4))):
        i = rng.randrange(len(members))
        name, contents = members[i]
        kind = rng.random()
        if kind < 0.7:
            members[i] = name, inner(contents, rng)
        elif kind < 0.8:
            members[i] = rng.choice([n for n, _ in members]), contents
        elif kind < 0.85:
            members[i] = name.rpartition("/")[0] + "/" + rng.choice(NAMES[:7]), contents
        elif kind < 0.9:
            members.insert(rng.randrange(len(members)), (name, contents))
        elif len(members) > 1:
            del members[i]
    file = io.BytesIO()
    with zipfile.ZipFile(
        file, "w", rng.choice((zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED,))
    ) as archive:
        for name, contents in members:
            archive.writestr(zipfile.ZipInfo(name), contents, archive.compression)
    return file.getvalue()


def _flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, rng: random.Random) -> None:
    at, length = _range(data, rng)
    data[at : at + length] = rng.choice((rng.randbytes(length), bytes(length), b"\xff" * length))


def _insert(data: bytearray, rng: random.Random) -> None:
    at, length = _range(data, rng)
    data[at:at] = rng.randbytes(length)


def _remove(data: bytearray, rng: random.Random) -> None:
    at, length = _range(data, rng)
    del data[at : at + length]


def _repeat(data: bytearray, rng: random.Random) -> None:
    at, length = _range(data, rng)
    times = rng.choice((1, 2, 10, 100, 2000))
    data[at:at] = (bytes(data[at : at + length]) * times)[:MAX_BYTES]


def _swap(data: bytearray, rng: random.Random) -> None:
    at, length = _range(data, rng)
    piece = data[at : at + length]
    del data[at : at + length]
    to = rng.randint(0, len(data))
    data[to:to] = piece


def _number(data: bytearray, rng: random.Random) -> None:
    """Write a number that may be one beyond a limit, as binary formats have them."""
    length = rng.choice((1, 2, 4, 8))
    at = rng.randint(0, max(0, len(data) - length))
    value = rng.choice(NUMBERS) % 2 ** (8 * length)
    data[at : at + length] = value.to_bytes(length, rng.choice(("little", "big")))


def _digits(data: bytearray, rng: random.Random) -> None:
    """Write such a number in the place of one in digits."""
    places = list(DIGITS.finditer(data[:MAX_BYTES]))
    if places:
        start, stop = rng.choice(places).span()
        data[start:stop] = str(rng.choice(NUMBERS)).encode()


def _range(data: bytearray, rng: random.Random) -> tuple[int, int]:
    return rng.randint(0, len(data)), rng.choice((1, 1, 2, 4, 16, 100, 512, 3000))


def _changed(value: Any, rng: random.Random) -> Any:
    """The value with something in it changed, at any depth."""
    if isinstance(value, dict | list) and value and rng.random() < 0.8:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        copy = value.copy()
        kind = rng.random()
        if kind < 0.7:
            copy[key] = _changed(value[key], rng)
        elif kind < 0.8:
            del copy[key]
        elif isinstance(value, dict):
            copy[rng.choice((*map(str, value), *NAMES[:-2]))] = value[key]
        else:
            copy += [value[key]] * rng.choice((1, 100))
        return copy
    return rng.choice(
        (
            None, True, [], {}, "", 0.5, -1.5, 1e300, float("nan"), float("inf"), [value],
            {"a": value}, str(value), *NUMBERS, *NAMES[:-2], _nested(value, rng.choice((5, 300))),
        )
    )  # fmt: skip


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value
