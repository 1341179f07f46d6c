"""Tile sizes: one table by architecture, with the reason for each row.

Chosen on evidence from the compiler (`python -m fastclip.benchmarks.compilers.triton`): no register
spills, tensor-core instructions, loads in flight. None of it has been timed yet, and nothing is
tuned at run time: the first call compiles one variant of each kernel, about a second each.

The table does not depend on the dtype of the features: every kernel multiplies float16 operands,
and float32-grade products are a longer loop over the same tiles. It does not depend on D either: D
is a run-time loop of at least BLOCK_K, and the use of registers, which are scarce, is independent
of D.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch

from fastclip.backends.gpu import device as gpu_device


@dataclass(frozen=True)
class Tile:
    """The tile of one program: block_m x block_n logits, from block_k features at a time."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class Tiles:
    """The tiles of an architecture.

    descriptors: whether loads and stores use tensor descriptors (TMA); otherwise they use pointers.
    column_sums: how `negative_sums.py` reduces over rows; see there.
    """

    descriptors: bool
    column_sums: str
    negative_sums: Tile
    keeping: Tile  # negative_sums where it also stores logits, or positives with maxima
    finalise: Tile
    finalise_leaving_out: Tile  # finalise where rows or columns leave out entries
    gradient: Tile
    siglip: Tile


# Shared memory of a program, in KiB: sm_80 163, sm_86, sm_89 and sm_120 99, sm_90 and sm_100 227.
TABLE = {
    # Descriptors compile but are not pipelined before sm_90: pointers, with cp.async. 128 x 256
    # leaves no registers for the sums, 128 x 128 none for softplus and sigmoid together.
    "sm_80": Tiles(
        descriptors=False,
        column_sums="lanes",
        negative_sums=Tile(128, 128, 32, 8, 3),
        keeping=Tile(128, 128, 32, 8, 3),
        finalise=Tile(64, 64, 32, 4, 3),
        finalise_leaving_out=Tile(64, 64, 32, 4, 3),
        gradient=Tile(128, 128, 32, 8, 3),
        siglip=Tile(128, 64, 64, 8, 3),
    ),
    # 256 x 128 has 85 FLOPs per byte from L2, 128 x 128 has 64. BLOCK_M > BLOCK_N where columns
    # are summed, since a thread holds few columns; BLOCK_N > BLOCK_M where a row of G is stored.
    # With the addresses of kept logits or of positives, 256 x 128 spills.
    "sm_90": Tiles(
        descriptors=True,
        column_sums="lanes",
        negative_sums=Tile(256, 128, 64, 8, 4),
        keeping=Tile(128, 128, 64, 8, 3),
        finalise=Tile(64, 128, 64, 4, 3),
        finalise_leaving_out=Tile(64, 128, 64, 4, 3),
        gradient=Tile(128, 256, 64, 8, 3),
        siglip=Tile(128, 128, 64, 8, 3),
    ),
    # The accumulator lies in tensor memory with a row per thread: summing a tile's columns would
    # take more shuffles than the product takes cycles. A full tile of column sums stays in
    # registers instead, and is reduced once per strip; 128 x 64 of it where logits are kept.
    # With a row per thread, a thread also holds the vectors of all columns: 128 of them spill in
    # Triton 3.6.
    # So do, in Triton 3.9, the entries that are left out of 64 x 128 float32-grade logits in
    # finalise.
    "sm_100": Tiles(
        descriptors=True,
        column_sums="full",
        negative_sums=Tile(128, 128, 64, 8, 3),
        keeping=Tile(128, 64, 64, 8, 3),
        finalise=Tile(64, 128, 64, 4, 3),
        finalise_leaving_out=Tile(64, 64, 64, 4, 3),
        gradient=Tile(128, 64, 64, 8, 4),
        siglip=Tile(128, 64, 64, 8, 4),
    ),
    # AMD, 64 KiB of shared memory: compiled for gfx942, never run. 4 warps: a wave has 64 lanes.
    "rocm": Tiles(
        descriptors=False,
        column_sums="tile",
        negative_sums=Tile(128, 128, 32, 4, 2),
        keeping=Tile(128, 128, 32, 4, 2),
        finalise=Tile(64, 64, 32, 4, 2),
        finalise_leaving_out=Tile(64, 64, 32, 4, 2),
        gradient=Tile(128, 128, 32, 4, 2),
        siglip=Tile(128, 128, 32, 4, 2),
    ),
}

# Architectures that share a row. sm_86, sm_89 and sm_120 have the instructions of sm_80 (sm_120 no
# tensor memory) and 99 KiB; the row of sm_80 needs 48.
SAME = {"sm_86": "sm_80", "sm_87": "sm_80", "sm_89": "sm_80", "sm_120": "sm_80", "sm_121": "sm_80",
        "sm_103": "sm_100"}  # fmt: skip

_simulated: ContextVar[str] = ContextVar("simulated", default="sm_90")


@contextmanager
def simulated_architecture(name: str) -> Iterator[None]:
    """Use this architecture's tiles where there is no GPU: in the interpreter and the report."""
    token = _simulated.set(name)
    try:
        yield
    finally:
        _simulated.reset(token)


def tiles_for(device: torch.device) -> Tiles:
    return TABLE[row_for(architecture(device))]


def architecture(device: torch.device) -> str:
    """Return the architecture, such as "sm_90" or "rocm"; without a GPU the simulated one."""
    if device.type != "cuda":
        return _simulated.get()
    if torch.version.hip is not None:
        return "rocm"
    return gpu_device.architecture(device)


def row_for(name: str) -> str | None:
    """Return the row of `TABLE` for an architecture, or None."""
    name = SAME.get(name, name)
    return name if name in TABLE else None
