"""Weights in archives of torch.save, in its older format and in safetensors.

Whether a file is of safetensors is told by its name, here by how it begins.
"""

import io
import random
from pathlib import Path

import torch
from safetensors.torch import save

from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.files import read_weights_file
from tests.hosts.fuzz.mutations import mutate_bytes, mutate_zip

ALLOWED = (CheckpointError,)
WORDS = (b"torch\n", b"Q", b"R", b"b", b"(", b"t", b"}", b"u", b"r\xff\xff\xff\xff", b"__torch__")
STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(3), "c": torch.ones(2).half()}


def seeds() -> list[bytes]:
    content = {"state_dict": STATE | {"d": STATE["a"].T}, "model_config": {"embed_dim": 3}}
    return [_saved(content, True), _saved(content, False), save(STATE)]


def mutate(data: bytes, rng: random.Random) -> bytes:
    def inner(contents: bytes, rng: random.Random) -> bytes:
        return mutate_bytes(contents, rng, WORDS)

    return mutate_zip(data, rng, inner) if data[:2] == b"PK" else inner(data, rng)


def read(path: Path) -> None:
    content = path.read_bytes()
    is_torch = content[:2] == b"PK" or content[:1] == b"\x80"
    named = path.with_name("weights.pt" if is_torch else "weights.safetensors")
    named.write_bytes(content)
    for value in read_weights_file(named).tensors.values():
        if value.numel() < 2**20:
            value.clone()


def _saved(content: object, is_archive: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=is_archive)
    return file.getvalue()
