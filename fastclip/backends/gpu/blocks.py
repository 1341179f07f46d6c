"""Blocks of G: the part of G, rows x cols, that exists at a time in the backward.

A block is multiplied twice by the vendor's library, G col and G^T row. On the 132 multiprocessors
of an H200 a product of m rows and D columns has m / 128 x D / 256 tiles, and each multiprocessor
computes one tile at a time. The product therefore takes a number of waves. A wave takes as long as
the sum of one tile, even if only some multiprocessors have a tile. So both sides of a block should
fill whole waves:

    D       one wave       both sides        bytes that a block may have
    512     8,448 rows     132 of 132 tiles  128 MiB (8,192 x 8,192: 128 tiles)
    768     5,632 rows     132 of 132         64 MiB
    1024    4,096 rows     128 of 132         32 MiB

With the operand and the product of one side, 2 N D and 4 N D bytes, and with the operand and
product of a chunk of rows, a batch of 32,768 stays within 256 MiB. A block of a much larger batch
may have N D / 2 bytes, a twelfth of the operand and product. The size is the cheapest, by `_cost`,
of the sizes that cut the matrix evenly: parts differ by at most one tile, and there is a single
part where the whole matrix fits.

Time is counted in steps: the time that a multiprocessor needs for one term of the sums of a tile,
16 clocks. Nothing here was measured.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

TILE = 256  # a block's sides are multiples of it
BLOCK_BYTES = ((512, 128 << 20), (768, 64 << 20), (1 << 31, 32 << 20))  # (largest D, bytes)
MOST_BYTES = max(num_bytes for _, num_bytes in BLOCK_BYTES)
MULTIPROCESSORS = 132
LEAST_ROWS = 16  # least limit of a chunk's rows, in tiles, where a wave has fewer
CLUSTERS = 66  # clusters of multiprocessors, each computing a tile of G, 256 x 256, at a time
# The end of a wave: 256 KiB of float32 sums are read and written by each multiprocessor, at its
# share of 4.8 TB/s.
END_OF_WAVE = 800
LAUNCHES = 1300  # steps of three launches, each of which takes 4 us to reach its full rate


@dataclass(frozen=True)
class Block:
    """The largest part of G, rows x cols, that exists at a time in the backward."""

    rows: int
    cols: int


def block_for(M: int, N: int, D: int, workspace: int | None, planes: int) -> Block:
    """Return the block for an M x N matrix: at most `workspace` bytes, but at least one tile."""
    num_bytes = max(next(size for most, size in BLOCK_BYTES if D <= most), N * D // 2)
    if workspace is not None:
        num_bytes = min(num_bytes, workspace)
    most_tiles = max(1, num_bytes // (2 * planes * TILE**2))
    rows, cols = _cheapest(max(1, -(-M // TILE)), max(1, -(-N // TILE)), D, most_tiles)
    return Block(rows * TILE, cols * TILE)


def even_parts(begin: int, end: int, most: int) -> Iterator[slice]:
    """Cut a range into even parts of at most `most`, in whole tiles except at the range's end."""
    tiles = -(-(end - begin) // TILE)
    count = -(-tiles // (most // TILE))
    for i in range(count):
        first, last = (begin + tiles * j // count * TILE for j in (i, i + 1))
        yield slice(first, min(last, end))


def waves(size: int, D: int) -> int:
    """Return how many waves a product with `size` rows and D columns takes."""
    return -(-(size // 128 * _tiles_across(D)) // MULTIPROCESSORS)


def _tiles_across(D: int) -> int:
    return max(2, -(-D // 256))  # tiles of a narrow product are narrower


@functools.cache
def _cheapest(M: int, N: int, D: int, most_tiles: int) -> tuple[int, int]:
    """Return the rows and columns of the cheapest block; all sizes but D are in tiles.

    Rows are limited, because a chunk of rows takes memory besides the block.
    """
    most_rows = min(max(_wave(D), LEAST_ROWS), most_tiles)
    if M <= most_rows and M * N <= most_tiles:
        return M, N
    sizes = [
        (m, n) for m in _even_sizes(M, most_rows, D) for n in _even_sizes(N, most_tiles // m, D)
    ]
    return min(sizes, key=lambda size: (_cost(M, N, D, *size), size))


def _wave(D: int) -> int:
    """Return the rows of one wave, in tiles."""
    return max(1, MULTIPROCESSORS // _tiles_across(D) * 128 // TILE)


def _even_sizes(size: int, most: int, D: int) -> set[int]:
    """Return sizes of even parts, in tiles, between `most` and one wave less."""
    return {-(-size // -(-size // part)) for part in range(most, max(0, most - _wave(D)), -1)}


def _cost(M: int, N: int, D: int, rows: int, cols: int) -> int:
    """Return the steps of the whole backward."""
    steps = 0
    for m, num_m in _evenly(M, rows):
        for n, num_n in _evenly(N, cols):
            products = (waves(m * TILE, D) * (n * TILE + END_OF_WAVE)
                        + waves(n * TILE, D) * (m * TILE + END_OF_WAVE))  # fmt: skip
            of_G = -(-m * n // CLUSTERS) * D
            steps += num_m * num_n * (products + of_G + LAUNCHES)
    return steps


def _evenly(size: int, most: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the two sizes of `even_parts`, in tiles, each with the number of such parts."""
    count = -(-size // most)
    small, num_large = divmod(size, count)
    return (small + 1, num_large), (small, count - num_large)
