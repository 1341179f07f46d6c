"""Blocks of G: their sizes are those that the vendor's matrix product likes, by D."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """The part of G, rows x cols, that exists at a time in the backward."""

    rows: int
    cols: int


# (largest D, rows of a block, its bytes). The product G col has rows / 128 x D / 256 tiles; these
# rows make them one wave on the 132 multiprocessors of an H200 (128 of 132 in the last row). With
# the operand and the product of one side, 2 N D and 4 N D bytes, the bytes keep a batch of 32,768
# within 256 MiB; a batch of many more may have N D / 2 bytes, a twelfth of those two.
BLOCKS = ((512, 8448, 96 << 20), (768, 5632, 64 << 20), (1 << 31, 4096, 30 << 20))
BLOCK_MULTIPLE = 256


def block_for(N: int, D: int, workspace: int | None, planes: int) -> Block:
    """The block for N columns of D elements: at most `workspace` bytes, but at least one tile."""
    rows, num_bytes = next(entry[1:] for entry in BLOCKS if D <= entry[0])
    num_bytes = max(num_bytes, N * D // 2)
    elements = num_bytes // (2 * planes)
    if workspace is not None and workspace < num_bytes:
        elements = workspace // (2 * planes)
        rows = min(rows, _whole_tiles(math.isqrt(elements)))
    return Block(rows, _whole_tiles(elements // rows))


def _whole_tiles(size: int) -> int:
    return max(BLOCK_MULTIPLE, size // BLOCK_MULTIPLE * BLOCK_MULTIPLE)
