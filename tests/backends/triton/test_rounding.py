"""Losses stay within their budgets when products round toward zero, as tensor cores do."""

import numpy as np
import pytest
import torch

import fastclip
from tests.support import exact, interpreter, rounded
from tests.support.inputs import planted_features, square
from tests.support.tolerance import check_value_and_grads

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU rounds as it does"),
    # numpy, which interprets the kernels, warns of what they overwrite: the exponential of a pair.
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:All-NaN slice encountered:RuntimeWarning"),
]


LOSSES = {
    "clip": (fastclip.clip_loss, exact.clip_loss, rounded.clip_loss, rounded.clip_loss_in_steps),
    "siglip": (
        fastclip.siglip_loss, exact.siglip_loss, rounded.siglip_loss, rounded.siglip_loss_in_steps,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("data", ["random", "trained", "cone", "adversarial"])
def test_losses_whose_products_round_toward_zero_match_float64(name, data, dtype, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    loss, true, eager_float16, eager_float32 = LOSSES[name]
    image, text = planted_features(square(140, 72), data, dtype)
    scalars = [torch.tensor(100.0), torch.tensor(-10.0)][: 1 if name == "clip" else 2]
    leaves = [x.clone().requires_grad_() for x in (image, text, *scalars)]
    with interpreter.products_rounded_toward_zero():
        value = loss(*leaves, backend="triton")
        grads = torch.autograd.grad(value, leaves)
    eager = eager_float16 if dtype == torch.float16 else eager_float32
    check_value_and_grads((value.detach(), grads), true, image, text, *scalars, eager=eager)


def test_products_are_rounded_as_they_say():
    a = np.full((1, 32), 1.0, np.float16)
    b = np.full((32, 1), 1 + 2.0**-10, np.float16)
    d = np.full((1, 1), 2.0**20, np.float32)
    exact_sum = 2.0**20 + 32 + 2.0**-5  # an ulp is 2^-3: 16 terms end in 2^-6
    assert interpreter._rounded_once(a, b, d) == 2.0**20 + 32 < exact_sum
    assert interpreter._rounded_once(-a, b, -d) == -(2.0**20 + 32)
    b += np.float16(2.0**-8)  # 16 terms end in 2^-4 + 2^-6, 32 in 2^-3 + 2^-5
    assert interpreter._rounded_once(a, b, d) == 2.0**20 + 32 + 2.0**-3
    assert interpreter._rounded_toward_zero(a, b, d) == 2.0**20 + 32
    assert interpreter._rounded_toward_zero(-a, b, -d) == -(2.0**20 + 32)
