"""The sum of all sigmoid losses as one node in C++, as autograd meets it."""

import pytest
import torch

import fastclip
from fastclip.ops import total_sigmoid_loss as module

pytestmark = pytest.mark.skipif(
    "cpu" not in fastclip.available_backends(), reason="the native module is not built"
)


def inputs(dtype=torch.float64, N=40, D=12):
    generator = torch.Generator().manual_seed(0)
    features = (torch.randn(N, D, generator=generator, dtype=torch.float64) for _ in range(2))
    scalars = (torch.tensor(float(x)) for x in (3.0, -1.5))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return [
        *(x.to(dtype).requires_grad_() for x in features),
        *(x.to(wide).requires_grad_() for x in scalars),
    ]


def loss_of(leaves):
    rows, cols, scale, bias = leaves
    return fastclip.siglip_loss(rows, cols, scale, bias, normalize=True, backend="cpu")


@pytest.fixture
def by_operators(monkeypatch):
    """Calls the loss by the registered operators, as a compiler does."""

    def call(leaves):
        with monkeypatch.context() as patch:
            patch.setattr(module, "is_eager_square", lambda rectangle: False)
            return loss_of(leaves)

    return call


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wanted", [(0, 1, 2, 3), (1, 3)])
def test_it_has_the_bits_of_the_operators(by_operators, dtype, wanted):
    found = []
    for call in (loss_of, by_operators):
        leaves = inputs(dtype)
        for i, leaf in enumerate(leaves):
            leaf.requires_grad_(i in wanted)
        loss = call(leaves)
        gradients = torch.autograd.grad(loss, [leaves[i] for i in wanted])
        assert [x.dtype for x in gradients] == [leaves[i].dtype for i in wanted]
        found.append([loss.detach(), *gradients])
    assert all(map(torch.equal, *found))
    assert "SiglipLoss" in loss_of(inputs(dtype)).grad_fn.next_functions[0][0].name()


def test_a_graph_that_is_kept_gives_the_same_again():
    leaves = inputs()
    loss = loss_of(leaves)
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    kept = [x.clone() for x in first]
    last = torch.autograd.grad(2 * loss, leaves)
    assert all(map(torch.equal, kept, first))
    for one, two in zip(first, last, strict=True):
        torch.testing.assert_close(two, 2 * one, rtol=1e-12, atol=0)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, leaves)


def test_a_second_derivative_is_refused_and_not_zero():
    leaves = inputs()
    gradients = torch.autograd.grad(loss_of(leaves), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match=r"fastclip\.siglip_loss is not differentiable twice"):
        torch.autograd.grad(sum(x.sum() for x in gradients), leaves[0])


def test_batches_of_gradients_are_multiples():
    leaves = inputs()
    loss = loss_of(leaves)
    weights = torch.tensor([1.0, -2.0], dtype=torch.float64)
    found = torch.autograd.grad(loss, leaves, weights, is_grads_batched=True, retain_graph=True)
    plain = torch.autograd.grad(loss, leaves)
    for batch, one in zip(found, plain, strict=True):
        torch.testing.assert_close(batch, torch.stack((one, -2 * one)), rtol=1e-12, atol=1e-15)


def test_inputs_that_change_before_the_backward_are_an_error():
    leaves = inputs()
    loss = loss_of(leaves)
    with torch.no_grad():
        leaves[0].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    "change, said",
    [
        ({3: torch.zeros(2, dtype=torch.float64)}, "logit_bias"),
        ({0: torch.zeros(3, 12, dtype=torch.float64)}, "equally many rows"),
    ],
)
def test_the_operator_checks_its_arguments(change, said):
    arguments = [change.get(i, x) for i, x in enumerate(inputs())]
    with pytest.raises(ValueError, match=said):
        torch.ops.fastclip_native.siglip_loss(*arguments, True)
