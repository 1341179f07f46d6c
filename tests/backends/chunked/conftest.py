"""The arithmetic of a GPU, on a CPU: factors of 16 bits are multiplied as the float32 they are."""

import pytest

from fastclip.backends import chunked
from fastclip.backends.chunked.machine import Machine

ELEMENTS = 40_000  # of a block: 128 x 256, so that cases of 300 pairs have several of either side


@pytest.fixture
def narrow(monkeypatch) -> Machine:
    machine = Machine(multiplies_16_bits=True, workspace=12 * ELEMENTS, multiprocessors=2)
    monkeypatch.setattr(chunked, "machine_of", lambda device: machine)
    return machine
