import pytest
import torch
import torch.nn.functional as F

from fastclip.models.parts.activations import (
    ACTIVATIONS,
    QuickGELU,
    make_activation,
    require_activation,
)

X = torch.linspace(-8, 8, 401, dtype=torch.float64)
EXACT = {
    "gelu": 0.5 * X * (1 + torch.erf(X / 2**0.5)),
    "gelu_tanh": 0.5 * X * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (X + 0.044715 * X**3))),
    "quick_gelu": X * torch.sigmoid(1.702 * X),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_its_formula(name):
    torch.testing.assert_close(make_activation(name)(X), EXACT[name], rtol=1e-14, atol=1e-14)


def test_activations_differ_from_each_other():
    names = list(ACTIVATIONS)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert (EXACT[one] - EXACT[other]).abs().max() > 1e-4


def test_quick_gelu_has_the_right_gradient():
    x = torch.randn(20, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(QuickGELU(), x)


def test_quick_gelu_keeps_one_tensor_for_the_backward():
    def kept_bytes(function):
        kept = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.update({t.data_ptr(): t.nbytes}) or t, lambda t: t
        ):
            function(torch.randn(1000).requires_grad_() + 0)
        return sum(n for n in kept.values() if n >= 4000)

    assert kept_bytes(QuickGELU()) == 4000
    assert kept_bytes(lambda x: x * torch.sigmoid(1.702 * x)) == 8000


def test_quick_gelu_in_float32_is_as_exact_as_as_it_is_usually_written():
    x = X.float()
    ours, usual = QuickGELU()(x), x * torch.sigmoid(1.702 * x)
    error = [(y.double() - EXACT["quick_gelu"]).abs().max() for y in (ours, usual)]
    assert error[0] <= 3 * error[1]
    torch.testing.assert_close(ours, F.silu(1.702 * x) / 1.702)


def test_unknown_activation_names_the_choices():
    with pytest.raises(ValueError, match=r"gelu.*quick_gelu.*'elu'"):
        make_activation("elu")


def test_relu_is_of_towers_without_a_choice():
    assert torch.equal(make_activation("relu")(X), X.clamp(min=0))
    with pytest.raises(ValueError, match=r"gelu.*quick_gelu.*'relu'"):
        require_activation("relu")
