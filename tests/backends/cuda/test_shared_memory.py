"""Where numbers lie in shared memory: Hopper's operands against CuTe; banks, of all kernels.

A row of 128 bytes spans all 32 banks. Eight lanes that read or write 16 bytes each, or 32 lanes 4
bytes each, do so at once if no two of them meet in a bank.
"""

import numpy as np
import pytest

from tests.support import instructions

pytestmark = pytest.mark.rehearsal

BANK_BYTES, BANKS = 4, 32


def swizzled(mask) -> np.ndarray:
    """Rows of 128 bytes, with chunks where `mask` of the row says."""
    row, k = np.indices((256, 64))
    return row * 128 + ((k // 8) ^ mask(row)) * 16 + k % 8 * 2


MISREADINGS = {
    "no swizzle": swizzled(lambda row: 0 * row),
    "of 64 bytes": swizzled(lambda row: row // 2 % 4),
    "by row % 4": swizzled(lambda row: row % 4),
    "rows in reverse": swizzled(lambda row: 7 - row % 8),
}


def products_agree(positions: np.ndarray, places: np.ndarray) -> bool:
    """64 x 256 after each of four steps of 16 features, the operands where `positions` says."""
    draw = np.random.default_rng(0)
    rows, cols = (draw.integers(-4, 5, (n, 64)).astype(np.float32) for n in (64, 256))
    row_image, col_image = (
        values.ravel()[np.argsort(positions[: len(values)], axis=None)] for values in (rows, cols)
    )
    got = np.full((128, 128), np.nan)
    for k in range(0, 64, 16):
        got = instructions.multiply_64x256(row_image, col_image, got, k)
        wanted = rows[:, : k + 16] @ cols[:, : k + 16].T
        if (got != wanted[places[..., 0], places[..., 1]]).any():
            return False
    return True


def test_wgmma(cute):
    assert products_agree(cute["swizzle"], cute["wgmma_c"])


@pytest.mark.parametrize("misreading", MISREADINGS)
def test_wgmma_of_misplaced_operands_is_seen(cute, misreading):
    assert not products_agree(MISREADINGS[misreading], cute["wgmma_c"])


@pytest.mark.parametrize("distance", [1, 4, 32])
def test_wgmma_of_exchanged_threads_is_seen(cute, distance):
    assert not products_agree(cute["swizzle"], cute["wgmma_c"][np.arange(128) ^ distance])


def test_boxes_lie_as_wgmma_reads_them(cute):
    np.testing.assert_array_equal(instructions.box_positions(), cute["swizzle"])


def test_stored_boxes_lie_as_the_copy_engine_reads_them(cute):
    """Of each warpgroup, four boxes of 64 x 64 side by side."""
    positions = instructions.stored_tile_positions()
    for number, box in enumerate(positions.reshape(2, 64, 4, 64).swapaxes(1, 2).reshape(8, 64, 64)):
        np.testing.assert_array_equal(box - number * 64 * 128, cute["swizzle"][:64])


def test_descriptors(cute):
    """CuTe's of 64 rows and of 256; the kernels'; the emulator's. All bits."""
    for of in cute["descriptors"].ravel():
        assert of["a"] == of["b"] == of["kernels"]
        assert instructions.descriptor(of["offset"], of["bytes"]) == of["kernels"]


def blocks(positions: np.ndarray, rows: int, cols: int, step: int) -> np.ndarray:
    """(blocks, accesses): the positions of each `step`-th number of aligned blocks."""
    m, n = positions.shape
    split = positions.reshape(m // rows, rows, n // cols, cols)[..., ::step]
    return split.swapaxes(1, 2).reshape(m // rows * (n // cols), -1)


def meet_no_bank_twice(accesses: np.ndarray, access_bytes: int) -> bool:
    """accesses: (at once, lanes), aligned addresses."""
    assert accesses.shape[1] * access_bytes == BANKS * BANK_BYTES
    assert (accesses % access_bytes == 0).all()
    groups = np.sort(accesses // access_bytes % accesses.shape[1], axis=1)
    return (groups == np.arange(accesses.shape[1])).all()


def whole_chunks(positions: np.ndarray) -> bool:
    """Eight numbers of a row lie side by side."""
    chunks = positions.reshape(-1, 8)
    return (chunks == chunks[:, :1] + 2 * np.arange(8)).all()


def test_banks_of_the_portable_product():
    """ldmatrix reads 8 rows of 8 features; eight threads copy 2 rows of 32."""
    positions = instructions.stage_positions()
    assert whole_chunks(positions)
    assert meet_no_bank_twice(blocks(positions, 8, 8, step=8), 16)
    assert meet_no_bank_twice(blocks(positions, 2, 32, step=8), 16)


def test_banks_of_the_portable_store():
    """A warp writes 8 rows of 8 numbers, two of a lane at a time; eight lanes read 64 of a row."""
    positions = instructions.staged_tile_positions()
    assert whole_chunks(positions)
    assert meet_no_bank_twice(blocks(positions, 8, 8, step=2), 4)
    assert meet_no_bank_twice(blocks(positions, 1, 64, step=8), 16)


def test_banks_on_hopper():
    """stmatrix writes 8 rows of 8 numbers; wgmma reads as many features of as many rows."""
    for positions in (instructions.stored_tile_positions(), instructions.box_positions()):
        assert whole_chunks(positions)
        assert meet_no_bank_twice(blocks(positions, 8, 8, step=8), 16)


@pytest.mark.parametrize(
    ("row_bytes", "chunk"),
    [
        (64, lambda row: 0 * row),
        (64, lambda row: row % 4),
        (128, lambda row: 0 * row),
        (128, lambda row: row % 4),
        (256, lambda row: 0 * row),
    ],
)
def test_met_banks_are_seen(row_bytes, chunk):
    row, col = np.indices((128, row_bytes // 2))
    positions = row * row_bytes + ((col // 8) ^ chunk(row)) * 16 + col % 8 * 2
    assert whole_chunks(positions)
    assert not meet_no_bank_twice(blocks(positions, 8, 8, step=8), 16)
    assert not meet_no_bank_twice(blocks(positions, 8, 8, step=2), 4)
