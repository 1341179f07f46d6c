"""The CLIP loss stays within its budget when products round toward zero, as tensor cores do."""

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


@pytest.mark.parametrize(
    "data, dtype",
    [
        ("random", torch.float16), ("trained", torch.float32), ("cone", torch.float32),
        ("cone", torch.float16), ("adversarial", torch.float16),
    ],
    ids=str,
)  # fmt: skip
def test_clip_loss_whose_products_round_toward_zero_matches_float64(data, dtype, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    image, text = planted_features(square(140, 72), data, dtype)
    scale = torch.tensor(100.0)
    leaves = [x.clone().requires_grad_() for x in (image, text, scale)]
    with interpreter.products_rounded_toward_zero():
        value = fastclip.clip_loss(*leaves, backend="triton")
        grads = torch.autograd.grad(value, leaves)
    kept = rounded.clip_loss_of_kept_logits  # by default, of 16-bit features
    eager = kept if dtype == torch.float16 else rounded.clip_loss_in_steps
    actual = value.detach(), grads
    check_value_and_grads(actual, exact.clip_loss, image, text, scale, eager=eager)


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
