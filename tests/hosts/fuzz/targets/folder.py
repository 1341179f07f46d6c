"""Captions in files, as text and as JSON, next to an image."""

import random
from pathlib import Path

from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.samples import MAX_CAPTION, BadSample
from tests.hosts.fuzz.mutations import mutate_bytes, mutate_json
from tests.support.pair_files import read_all

ALLOWED = ()
JSON = b'{"caption": "a dog", "text": ["more", 1.5, null], "size": {"width": 3}}'


def seeds() -> list[bytes]:
    return [b"a dog\n", "\ufeff ключ 鍵 \U0001f600\r\n".encode(), JSON]


def mutate(data: bytes, rng: random.Random) -> bytes:
    words = (b"\xff", b"\xef\xbb\xbf", b"\0", b"\xed\xa0\x80", b"[" * 9000, b"\xcc\x81" * 9000)
    return mutate_json(data, rng) if data == JSON else mutate_bytes(data, rng, words)


def read(path: Path) -> None:
    folder = path.parent
    (folder / "a.jpg").write_bytes(b"image")
    for suffix in ("txt", "json"):
        (folder / f"a.{suffix}").write_bytes(path.read_bytes())
        (item,) = read_all(FolderSource(folder, caption_key=suffix))
        if isinstance(item, BadSample):
            assert len(item.detail) < 1000
        else:
            assert item.caption and len(item.caption) <= MAX_CAPTION
