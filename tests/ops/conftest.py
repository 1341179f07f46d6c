"""A machine with a GPU for "auto"."""

import pytest

from tests.support import fake_gpu


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A fake GPU whose Triton is right, or makes a mistake; the calls of Triton's primitives."""

    def install(mistake=None):
        return fake_gpu.install(monkeypatch, tmp_path, mistake)

    yield install
    fake_gpu.new_process()
