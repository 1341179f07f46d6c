"""Texts of merges, gzipped or not, and tokenizer.json."""

import gzip
import json
import random
from pathlib import Path

from fastclip.data.tokenizers.vocabulary import BytePairVocabulary, read_directory, read_vocabulary
from tests.hosts.fuzz.mutations import mutate_bytes, mutate_json

ALLOWED = (ValueError, FileNotFoundError)
MERGES = (("a", "b</w>"), ("c", "d"), ("cd", "e</w>"))


def seeds() -> list[bytes]:
    vocabulary = BytePairVocabulary(MERGES)
    text = vocabulary.to_text().encode()
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    whole = {"model": {"merges": [" ".join(merge) for merge in MERGES], "vocab": ids}}
    return [text, gzip.compress(text, mtime=0), json.dumps(whole).encode()]


def mutate(data: bytes, rng: random.Random) -> bytes:
    if data.startswith(b"{"):
        return mutate_json(data, rng)
    if data.startswith(b"\x1f\x8b") and rng.random() < 0.5:
        return gzip.compress(mutate_bytes(gzip.decompress(data), rng), mtime=0)
    return mutate_bytes(data, rng)


def read(path: Path) -> None:
    content = path.read_bytes()
    if content.startswith(b"{"):
        path.with_name("tokenizer.json").write_bytes(content)
        list(read_directory(path.parent, len(MERGES)))
    else:
        read_vocabulary(path, len(MERGES))
