"""What tests of benchmarks need not wait for."""

import pytest

from fastclip.benchmarks import ceilings
from fastclip.benchmarks.figures import style


@pytest.fixture(autouse=True)
def small_ceilings_and_figures(monkeypatch):
    monkeypatch.setitem(ceilings.SIZES, "cpu", (64, 1 << 16))
    monkeypatch.setattr(style, "DPI", 30)
