"""Random damage to shards: every sample that it does not touch comes out exactly once."""

import random
from collections import Counter

import pytest

from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.tar_shards import TarSource
from tests.support.pair_files import (
    assert_resumable,
    damage,
    image_bytes,
    read_all,
    tar_bytes,
)

BLOCK = 512
NUM_PAIRS = 12


STYLES = {"plain": "d/", "dotted": "d/v1.", "parts": "d.x/"}


def make_shard(rng: random.Random, style: str) -> tuple[bytes, list[tuple[int, int]]]:
    """A shard with members of many lengths, and where in it each sample lies."""
    members, extents, offset = [], [], 0
    for i in range(NUM_PAIRS):
        # Random bytes for an image: nothing here decodes it, and a long one spans more blocks.
        name = f"{STYLES[style]}{i:03d}"
        pair = [
            (f"{name}.jpg", rng.randbytes(rng.choice((0, 1, 511, 512, 513, 3000)))),
            (f"{name}.txt", f"caption {i} ".encode() * rng.choice((1, 60))),
        ]
        if style == "parts":
            pair += [(f"{name}.{s}", b"part") for s in rng.sample(("png", "seg.png", "a.txt"), 2)]
        rng.shuffle(pair)
        members += pair
        size = sum(BLOCK + -(-len(contents) // BLOCK) * BLOCK for _, contents in pair)
        extents.append((offset, offset + size))
        offset += size
    return tar_bytes(members), extents


@pytest.mark.parametrize(
    "style, seed",
    [(style, seed) for seed in range(60) for style in [*STYLES][: 1 + 2 * (seed < 20)]],
)
def test_every_undamaged_sample_comes_out_exactly_once(tmp_path, style, seed):
    rng = random.Random(seed)
    contents, extents = make_shard(rng, style)
    damaged, touched = damage(contents, rng)
    path = tmp_path / "a.tar"
    path.write_bytes(contents)
    whole = {item.key: item for item in read_all(TarSource(str(path)))}
    assert len(whole) == NUM_PAIRS

    path.write_bytes(damaged)
    source = TarSource(str(path))
    items = read_all(source)
    keys = Counter(item.key for item in items if isinstance(item, Sample))
    for i, (start, stop) in enumerate(extents):
        key = f"{path}/{STYLES[style]}{i:03d}"
        if all(last <= start or first >= stop for first, last in touched):
            assert keys[key] == 1
            assert next(item for item in items if item.key == key) == whole[key]
    assert max(keys.values(), default=1) == 1
    if len(keys) < NUM_PAIRS:
        assert any(isinstance(item, BadSample) for item in items)
    assert_resumable(source)


@pytest.mark.parametrize("seed", range(20))
def test_noise_instead_of_a_shard_never_raises(tmp_path, seed):
    rng = random.Random(seed)
    path = tmp_path / "a.tar"
    magic = b"ustar\x0000" * rng.randint(0, 40)
    path.write_bytes(rng.randbytes(rng.randint(0, 5000)) + magic + rng.randbytes(600))
    items = read_all(TarSource(str(path)))
    assert items and all(isinstance(item, BadSample) for item in items)


def test_a_header_across_the_edge_of_a_search_window_is_found(tmp_path):
    image = image_bytes(1)
    tail = tar_bytes([("b.jpg", image), ("b.txt", b"found")])
    path = tmp_path / "a.tar"
    for shift in (-513, -512, -511, -257, -256, -255, -1, 0, 1, 300):
        path.write_bytes(b"x" * (2**20 + shift) + tail)
        items = read_all(TarSource(str(path)))
        assert [getattr(item, "caption", None) for item in items] == [None, "found"]
