"""Blocks of G: the part of it, rows x cols, that exists at a time in the backward.

A block is multiplied twice by the vendor's library, G col and G^T row. On the 132 multiprocessors
of an H200 a product of m rows and D columns has m / 128 x D / 256 tiles, one to a multiprocessor at
a time: as many waves as it takes, each as long as the sum that its tiles are, whether all
multiprocessors have one or not. So both sides of a block want to be whole waves:

    D       one wave       both sides        bytes that a block may have
    512     8,448 rows     132 of 132 tiles  128 MiB (8,192 x 8,192: 128 tiles)
    768     5,632 rows     132 of 132         64 MiB
    1024    4,096 rows     128 of 132         32 MiB

With the operand and the product of one side, 2 N D and 4 N D bytes, and those of a chunk of rows,
the bytes keep a batch of 32,768 within 256 MiB; a batch of many more may have N D / 2 bytes, a
twelfth of those two. The size is the cheapest by `_cost` of those that cut the matrix evenly:
no part is more than one tile smaller than another, and there is one part where all of it fits.

Time is counted in steps: what a multiprocessor takes for one term of the sums of a tile, 16 clocks.
Nothing here was measured.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

TILE = 256  # a block's sides are multiples of it
BLOCK_BYTES = ((512, 128 << 20), (768, 64 << 20), (1 << 31, 32 << 20))  # up to which D
MOST_BYTES = max(num_bytes for _, num_bytes in BLOCK_BYTES)
MULTIPROCESSORS = 132
LEAST_ROWS = 16  # that a chunk may have, in tiles, where a wave is fewer
CLUSTERS = 66  # that compute a tile of G at a time, 256 x 256
# The end of a wave: 256 KiB of float32 sums are read and written by each multiprocessor, at its
# share of 4.8 TB/s.
END_OF_WAVE = 800
LAUNCHES = 1300  # three, of 4 us each until they are at their rate


@dataclass(frozen=True)
class Block:
    """The largest part of G, rows x cols, that exists at a time in the backward."""

    rows: int
    cols: int


def block_for(M: int, N: int, D: int, workspace: int | None, planes: int) -> Block:
    """The block of an M x N matrix: at most `workspace` bytes, but at least one tile."""
    num_bytes = max(next(size for most, size in BLOCK_BYTES if D <= most), N * D // 2)
    if workspace is not None:
        num_bytes = min(num_bytes, workspace)
    most_tiles = max(1, num_bytes // (2 * planes * TILE**2))
    rows, cols = _cheapest(max(1, -(-M // TILE)), max(1, -(-N // TILE)), D, most_tiles)
    return Block(rows * TILE, cols * TILE)


def even_parts(begin: int, end: int, most: int) -> Iterator[slice]:
    """Of at most `most` each, in whole tiles but for the last one's end, equal to one tile."""
    tiles = -(-(end - begin) // TILE)
    count = -(-tiles // (most // TILE))
    for i in range(count):
        first, last = (begin + tiles * j // count * TILE for j in (i, i + 1))
        yield slice(first, min(last, end))


def waves(size: int, D: int) -> int:
    """Of a product with `size` rows and D columns."""
    return -(-(size // 128 * _tiles_across(D)) // MULTIPROCESSORS)


def _tiles_across(D: int) -> int:
    return max(2, -(-D // 256))  # of a narrow product they are narrower


@functools.cache
def _cheapest(M: int, N: int, D: int, most_tiles: int) -> tuple[int, int]:
    """Everything but D in tiles. Rows are few: what a chunk of them takes is beside the block."""
    most_rows = min(max(_wave(D), LEAST_ROWS), most_tiles)
    if M <= most_rows and M * N <= most_tiles:
        return M, N
    sizes = [
        (m, n) for m in _even_sizes(M, most_rows, D) for n in _even_sizes(N, most_tiles // m, D)
    ]
    return min(sizes, key=lambda size: (_cost(M, N, D, *size), size))


def _wave(D: int) -> int:
    """Rows of one wave, in tiles."""
    return max(1, MULTIPROCESSORS // _tiles_across(D) * 128 // TILE)


def _even_sizes(size: int, most: int, D: int) -> set[int]:
    """Of the largest of even parts, in tiles: those from `most` down to a wave less."""
    return {-(-size // -(-size // part)) for part in range(most, max(0, most - _wave(D)), -1)}


def _cost(M: int, N: int, D: int, rows: int, cols: int) -> int:
    """Steps of the whole backward."""
    steps = 0
    for m, num_m in _evenly(M, rows):
        for n, num_n in _evenly(N, cols):
            products = (waves(m * TILE, D) * (n * TILE + END_OF_WAVE)
                        + waves(n * TILE, D) * (m * TILE + END_OF_WAVE))  # fmt: skip
            of_G = -(-m * n // CLUSTERS) * D
            steps += num_m * num_n * (products + of_G + LAUNCHES)
    return steps


def _evenly(size: int, most: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Sizes of `even_parts`, in tiles, and how many there are of each."""
    count = -(-size // most)
    small, num_large = divmod(size, count)
    return (small + 1, num_large), (small, count - num_large)
