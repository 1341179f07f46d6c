"""The sizes of the blocks of G, and how the walk cuts a matrix into them."""

import itertools

import pytest

from fastclip.backends.gpu.blocks import Block, block_for, even_parts
from tests.support.pairwise import cover_pairs

MIB = 1 << 20
DIMS = [64, 512, 768, 1024, 1536, 4096, 20_000]
WORKSPACES = [None, 1 * MIB, 8 * MIB, 40 * MIB, 1 << 30]


def sizes(size: int, most: int) -> list[int]:
    """Of the parts, padded to whole tiles."""
    return [-(-(part.stop - part.start) // 256) * 256 for part in even_parts(0, size, most)]


def used(parts: list[int], D: int) -> float:
    """The part of an H200 that is at work in the products that give this side's gradient.

    A tile of 128 x 256 (128 at D = 256) to each of 132 multiprocessors, then the next 132.
    """
    width = 256 if D >= 512 else 128 if D > 128 else 64
    tiles = [part // 128 * -(-D // width) for part in parts]
    return sum(tiles) / sum(-(-count // 132) * 132 for count in tiles)


@pytest.mark.parametrize("D, workspace", cover_pairs(DIMS, WORKSPACES))
def test_a_block_fits_in_the_workspace(D, workspace):
    for planes, (M, N) in itertools.product((1, 2), ((4096, 4096), (20_000, 300), (70, 100_000))):
        block = block_for(M, N, D, workspace, planes)
        num_bytes = block.rows * block.cols * 2 * planes
        assert num_bytes <= min(max(128 * MIB, N * D // 2), workspace or 1 << 40)
        assert block.rows % 256 == block.cols % 256 == 0


def test_a_block_is_at_least_a_tile():
    assert block_for(5000, 5000, 512, 0, 2) == block_for(1, 1, 512, None, 1) == Block(256, 256)


@pytest.mark.parametrize("D", [512, 768, 1024, 1536, 2048, 4096])
@pytest.mark.parametrize("N", [16_384, 20_000, 32_768, 65_536, 1 << 20])
def test_both_sides_are_whole_waves(N, D):
    block = block_for(N, N, D, None, 1)
    least = 0.96 if N % 16_384 == 0 else 0.79  # 20,000 rows at D = 512: three waves for 2.4
    assert used(sizes(N, block.rows), D) > least and used(sizes(N, block.cols), D) > least


def test_the_count_of_waves_sees_ragged_blocks():
    """Those of before: rows for one product, of columns what the bytes left."""
    assert used([5888] * 5 + [3328], 768) < 0.55
    assert used([3840, 256], 1024) < 0.5


@pytest.mark.parametrize("N, D", [(4096, 1024), (8192, 512), (5632, 768), (2048, 64), (300, 4096)])
def test_what_fits_is_one_block(N, D):
    block = block_for(N, N, D, None, 1)
    assert sizes(N, block.rows) == sizes(N, block.cols) == [-(-N // 256) * 256]


def test_a_workspace_that_holds_less_still_has_even_parts():
    for workspace in (5 * MIB, 20 * MIB, 50 * MIB):
        for N in (3000, 9000, 32_768):
            block = block_for(N, N, 768, workspace, 1)
            # A chunk of the walk is worth its launches.
            assert block.rows * block.cols * 2 > workspace / 3 or block.rows >= N
            for side in (block.rows, block.cols):
                assert max(sizes(N, side)) - min(sizes(N, side)) <= 256


@pytest.mark.parametrize("begin, end, most", [(0, 1, 256), (0, 8192, 5888), (100, 5000, 512)])
def test_parts_cover_a_side(begin, end, most):
    parts = list(even_parts(begin, end, most))
    assert parts[0].start == begin and parts[-1].stop == end
    assert all(a.stop == b.start for a, b in itertools.pairwise(parts))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) <= most and all(x % 256 == 0 for x in lengths[:-1])
    assert max(lengths) - min(lengths[:-1] or lengths) <= 256
    assert len(parts) == -(-(end - begin) // most)


def test_nothing_has_no_parts():
    assert list(even_parts(7, 7, 256)) == []
