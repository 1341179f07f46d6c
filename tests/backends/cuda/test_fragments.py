"""Which lane holds what: the emulator and `fragment.cuh` against CuTe.

The kernels and the emulator take it from the PTX ISA as one author read it; a misreading that they
share is seen by nothing else without a GPU.
"""

import numpy as np
import pytest

from tests.support import instructions

# Of a layout [lane][value]: what a misreading makes of it.
MISREADINGS = {
    "g and t swapped": lambda layout: layout.reshape(8, 4, *layout.shape[1:])
    .swapaxes(0, 1)
    .reshape(layout.shape),
    "middle values swapped": lambda layout: layout[:, _middle_swapped(layout.shape[1])],
    "halves swapped": lambda layout: np.roll(layout, layout.shape[1] // 2, axis=1),
    "pairs swapped": lambda layout: layout[:, np.arange(layout.shape[1]) ^ 1],
}


def _middle_swapped(size: int) -> np.ndarray:
    return np.arange(size).reshape(4, -1)[[0, 2, 1, 3]].ravel()


def misread(tables: dict, name: str, misreading: str) -> dict:
    layout = MISREADINGS[misreading](tables[name])
    assert (layout != tables[name]).any()
    return {**tables, name: layout}


def integers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-8, 9, shape).astype(np.float32)


def at(matrix: np.ndarray, places: np.ndarray) -> np.ndarray:
    return matrix[places[..., 0], places[..., 1]]


def mma_agrees(tables: dict) -> bool:
    a, b, c = integers(16, 16), integers(8, 16), integers(16, 8)
    got = instructions.multiply_add(
        at(a, tables["mma_a"]), at(b, tables["mma_b"]), at(c, tables["mma_c"])
    )
    return (got == at(c + a @ b.T, tables["mma_c"])).all()


def ldmatrix_agrees(tables: dict) -> bool:
    got = instructions.load_matrices(tables["ldmatrix_source"])
    return (got == tables["ldmatrix_destination"]).all()


def stmatrix_agrees(tables: dict) -> bool:
    got = instructions.store_matrices(tables["stmatrix_source"])
    return (got == tables["stmatrix_destination"]).all()


def portable_fragment_agrees(tables: dict) -> bool:
    for (m, n), places in tiles_of(instructions.portable_places()):
        if (places != tables["mma_c"] + [16 * m, 8 * n]).any():
            return False
    return True


def tiles_of(places: np.ndarray):
    return (
        ((m, n), places[:, m, n]) for m in range(places.shape[1]) for n in range(places.shape[2])
    )


def test_mma(cute):
    assert mma_agrees(cute)


@pytest.mark.parametrize("factor", ["mma_a", "mma_b", "mma_c"])
@pytest.mark.parametrize("misreading", MISREADINGS)
def test_a_misread_mma_is_seen(cute, factor, misreading):
    assert not mma_agrees(misread(cute, factor, misreading))


def test_ldmatrix(cute):
    assert ldmatrix_agrees(cute)


def test_stmatrix(cute):
    assert stmatrix_agrees(cute)


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("misreading", MISREADINGS)
def test_misread_matrix_copies_are_seen(cute, side, misreading):
    assert not ldmatrix_agrees(misread(cute, f"ldmatrix_{side}", misreading))
    assert not stmatrix_agrees(misread(cute, f"stmatrix_{side}", misreading))


def test_portable_fragment(cute):
    assert portable_fragment_agrees(cute)


@pytest.mark.parametrize("misreading", MISREADINGS)
def test_a_misread_fragment_is_seen(cute, misreading):
    assert not portable_fragment_agrees(misread(cute, "mma_c", misreading))


def test_hopper_fragment(cute):
    """Of a warp: its 16 rows are the kernels' to add."""
    warp = np.arange(128)[:, None] // 32
    places = instructions.hopper_places().reshape(128, 128, 2)
    np.testing.assert_array_equal(places[..., 0] + 16 * warp, cute["wgmma_c"][..., 0])
    np.testing.assert_array_equal(places[..., 1], cute["wgmma_c"][..., 1])
