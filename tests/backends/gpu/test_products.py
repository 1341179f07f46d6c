"""The vendor's products: float32 sums of 16-bit factors, whatever torch is told to allow."""

import pytest
import torch

from fastclip.backends.gpu import products


@pytest.fixture(params=[True, False])
def allowed(request):
    torch.backends.cuda.matmul.allow_fp16_accumulation = request.param
    yield request.param
    torch.backends.cuda.matmul.allow_fp16_accumulation = False


def test_float16_sums_are_not_allowed_while_products_are_summed(allowed, monkeypatch):
    seen = []
    flags = torch.backends.cuda.matmul
    monkeypatch.setattr(products, "_addmm", lambda *_: seen.append(flags.allow_fp16_accumulation))
    block = values = torch.ones(2, 1, 1, dtype=torch.float16)
    products.accumulate(torch.empty(1, 1), block, values, first=True)
    assert seen == [False] * 3
    assert flags.allow_fp16_accumulation == allowed


def test_what_was_allowed_is_allowed_again_after_an_error(allowed):
    one = torch.ones(1, 1, 1, dtype=torch.float16)
    with pytest.raises(RuntimeError):
        products.accumulate(torch.empty(2, 3), one, torch.ones(1, 5, 7), first=True)
    assert torch.backends.cuda.matmul.allow_fp16_accumulation == allowed
