"""What names shards: specifications with braces and wildcards, and the numbers next to shards."""

import random
from pathlib import Path

from fastclip.data.sources.shard_names import SIZES, shard_paths, shard_sizes, stated_length
from tests.hosts.fuzz.mutations import mutate_bytes, mutate_json

ALLOWED = (OSError, ValueError)
SPECS = (b"{000..012}.tar", b"a{b,c{0..9..3},{d,e}}.tar::*.tar", b"{a..f}/{0..9}{x,y}.tar")
TABLE = b'{"input": 7, "000.tar": 12, "a.tar": 10000}'


def seeds() -> list[bytes]:
    return [*SPECS, TABLE]


def mutate(data: bytes, rng: random.Random) -> bytes:
    words = (b"{", b"}", b",", b"..", b"::", b"*", b"[", b"\0", b"{0..99}", b"{a,b}", b"999999999")
    return mutate_json(data, rng) if data == TABLE else mutate_bytes(data, rng, words)


def read(path: Path) -> None:
    contents = path.read_bytes()
    (path.parent / SIZES).write_bytes(contents)
    (path.parent / "__len__").write_bytes(contents)
    refused = 0
    for call in (
        lambda: shard_paths(contents.decode(errors="surrogateescape")),
        lambda: shard_sizes([str(path)]),
        lambda: stated_length([str(path)]),
    ):
        try:
            call()
        except ALLOWED as error:
            assert len(str(error)) < 4000  # five names
            refused += 1
    assert refused
