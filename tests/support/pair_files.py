"""Small data sets on disk, and what of them a source yields."""

import io
import random
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastclip.data.images import load_image
from fastclip.data.loading.loader import PairLoader
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import Source


def image_bytes(value: int, size: tuple[int, int] = (8, 8), format: str = "PNG") -> bytes:
    """A file of width x height pixels, whose colour tells images with other values apart."""
    colour = (value % 256, value // 256 % 256, 77)
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format)
    return file.getvalue()


def tar_bytes(members: list[tuple[str, bytes]], format: int = tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, contents in members:
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            tar.addfile(info, io.BytesIO(contents))
    return file.getvalue()


def pair_members(numbers: range) -> list[tuple[str, bytes]]:
    return [
        member
        for i in numbers
        for member in ((f"{i:05d}.png", image_bytes(i)), (f"{i:05d}.txt", f"pair {i}".encode()))
    ]


def write_shards(folder: Path, num_pairs: list[int]) -> list[Path]:
    """Write 000.tar, 001.tar, ... with so many pairs; captions count on through all of them."""
    paths, first = [], 0
    for shard, number in enumerate(num_pairs):
        paths.append(folder / f"{shard:03d}.tar")
        paths[-1].write_bytes(tar_bytes(pair_members(range(first, first + number))))
        first += number
    return paths


def damage(contents: bytes, rng: random.Random) -> tuple[bytes, list[tuple[int, int]]]:
    """Overwrite, zero or cut; return what is left and which ranges were touched."""
    data, touched = bytearray(contents), []
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data))
        stop = min(len(data), start + rng.choice((1, 2, 40, 512, 3000)))
        noise = bytes(stop - start) if rng.random() < 0.3 else rng.randbytes(stop - start)
        data[start:stop] = noise
        touched.append((start, stop))
    if rng.random() < 0.4:
        cut = rng.randrange(len(data))
        touched.append((cut, len(data)))
        del data[cut:]
    return bytes(data), touched


def read_all(source: Source) -> list[Sample | BadSample]:
    return [entry.load() for part in source.parts() for entry in source.read(part)]


def captions(items: list[Sample | BadSample]) -> list[str]:
    return [item.caption for item in items if isinstance(item, Sample)]


def reasons(items: list[Sample | BadSample]) -> list[str]:
    return [item.reason for item in items if isinstance(item, BadSample)]


def assert_resumable(source: Source) -> None:
    """Reading on from every position gives what a read from the start gives from there on."""
    for part in source.parts():
        entries = [(e.position, e.next_position, e.load()) for e in source.read(part)]
        for i, (position, next_position, _) in enumerate(entries):
            again = [(e.position, e.next_position, e.load()) for e in source.read(part, position)]
            assert_same_entries(again, entries[i:])
            behind = [e.position for e in source.read(part, next_position)]
            assert behind == [p for p, _, _ in entries[i + 1 :]]


def assert_same_entries(found: list, expected: list) -> None:
    assert [entry[:2] for entry in found] == [entry[:2] for entry in expected]
    for (_, _, left), (_, _, right) in zip(found, expected, strict=True):
        assert type(left) is type(right) and left.key == right.key
        for a, b in zip(left, right, strict=True):
            assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


def to_pixels(image: object) -> Tensor:
    """A transform: (3, 4, 4) uint8, a random part of the image in a random brightness."""
    image = image if isinstance(image, Image.Image) else load_image(image)
    pixels = torch.from_numpy(np.asarray(image.convert("RGB").resize((4, 4))).copy())
    noise = torch.randint(0, 8, (4, 4, 3), dtype=torch.uint8)
    return (pixels // 2 + noise + int(np.random.randint(0, 100))).permute(2, 0, 1).contiguous()


def to_tokens(texts: list[str]) -> Tensor:
    """A tokenizer: the first sixteen code points."""
    rows = [[ord(c) for c in text[:16].ljust(16)] for text in texts]
    return torch.tensor(rows, dtype=torch.int64)


def in_process(loader: PairLoader) -> PairLoader:
    """Let the workers' streams run here: the same pieces without the cost of processes."""
    loader._processes = {}
    return loader


def to_text(tokens: Tensor) -> str:
    return "".join(map(chr, tokens.tolist())).strip()
