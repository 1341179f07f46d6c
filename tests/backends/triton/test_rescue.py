"""That the rescue of rows is needed where tests of the backend say that it is exact."""

import math

import pytest
import torch
import triton.language as tl

import fastclip
from fastclip.benchmarks.cases import Case, make_inputs
from tests.support import exact


@pytest.mark.skipif(torch.cuda.is_available(), reason="a compiled kernel keeps its constants")
def test_without_the_rescue_the_loss_is_wrong(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr("fastclip.backends.triton.finalise.TRUSTED", tl.constexpr(0.0))
    # Even images are opposite to all texts.
    inputs = make_inputs(Case(140, 48, torch.float32, 100.0, "adversarial"))
    loss = fastclip.clip_loss(*inputs, backend="triton")
    true = exact.clip_loss(*(x.double() for x in inputs))
    assert not math.isclose(loss.item(), true.item(), rel_tol=1e-3)
