"""TorchScript archives, of modules in modules."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.jit_archive import is_jit_archive, read_jit_archive
from tests.hosts.fuzz.mutations import mutate_bytes, mutate_zip
from tests.support.archives import module, recalled, remembered, tensor, write_archive

ALLOWED = (CheckpointError,)
WORDS = (module(), recalled(1), remembered(1), tensor(), b"__torch__", b"b", b"R", b"(", b"t")


def seeds() -> list[bytes]:
    shared = module(weight=tensor()) + remembered(1)
    trees = (module(a=tensor()), module(a=shared, b=recalled(1), c=module(d=tensor())))
    with TemporaryDirectory() as folder:
        path = Path(folder, "archive")
        return [write_archive(path, tree, is_program=True).read_bytes() for tree in trees]


def mutate(data: bytes, rng: random.Random) -> bytes:
    return mutate_zip(data, rng, lambda contents, rng: mutate_bytes(contents, rng, WORDS))


def read(path: Path) -> None:
    if is_jit_archive(path):
        for value in read_jit_archive(path).values():
            value.clone()
