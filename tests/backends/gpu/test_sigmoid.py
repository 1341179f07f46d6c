"""siglip_loss and its primitives with every set of kernels against float64."""

import pytest
import torch

import fastclip
from fastclip.backends.gpu import blocks, sigmoid
from fastclip.benchmarks.cases import RECTANGLES
from fastclip.ops.dispatch import Call
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.rectangle import Rectangle
from tests.support import exact, rounded
from tests.support.inputs import planted_features, square
from tests.support.pairwise import cover_pairs
from tests.support.tolerance import check_value_and_grads, distance

pytestmark = [
    pytest.mark.rehearsal,
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]

DTYPES = [torch.float32, torch.float16]


def run(gpu, *inputs, **options):
    leaves = [x.detach().to(gpu.device).requires_grad_() for x in inputs]
    value = fastclip.siglip_loss(*leaves, backend=gpu.backend, **options)
    grads = torch.autograd.grad(value.sum(), leaves)
    return value.detach().cpu(), [grad.cpu() for grad in grads]


def check(actual, *inputs, **options):
    in_float32 = inputs[0].dtype == torch.float32
    eager = rounded.siglip_loss_in_steps if in_float32 else rounded.siglip_loss
    check_value_and_grads(actual, exact.siglip_loss, *inputs, eager=eager, **options)


@pytest.mark.parametrize(
    "data, scalars, dtype",
    cover_pairs(
        ["random", "trained", "cone", "adversarial"], [(10.0, -10.0), (100.0, -16.0)], DTYPES
    ),
)
def test_siglip_loss_in_one_pass_matches_float64(gpu, data, scalars, dtype):
    image, text = planted_features(square(140, 72), data, dtype)
    inputs = image, text, *map(torch.tensor, scalars)
    check(run(gpu, *inputs), *inputs)


@pytest.mark.every_architecture
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_architecture_and_normalisation(gpu, dtype):
    image, text = planted_features(square(261, 40), "random", dtype)
    inputs = 3 * image, text / 2, torch.tensor(10.0), torch.tensor(-5.0)
    check(run(gpu, *inputs, normalize=True), *inputs, normalize=True)


def test_one_pass_and_two_passes_agree(gpu):
    image, text = planted_features(square(140, 40), "trained")
    inputs = image, text, torch.tensor(10.0), torch.tensor(-10.0)
    one, two = run(gpu, *inputs), run(gpu, *inputs, reduction="none")
    torch.testing.assert_close(one[0], two[0].mean(), rtol=2e-6, atol=0)
    for a, b in zip(one[1], two[1], strict=True):
        torch.testing.assert_close(140 * a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("shape", RECTANGLES, ids=str)
def test_rectangles_with_a_weight_per_row_match_float64(gpu, shape):
    rows, cols = planted_features(shape, "trained")
    scalars = torch.tensor(7.0), torch.tensor(-3.0)
    leaves = [x.to(gpu.device).requires_grad_() for x in (2 * rows, 3 * cols, *scalars)]
    *of_rectangle, bias = leaves
    rectangle = Rectangle(*of_rectangle, shape.positives, normalize=True)
    row_loss, _ = siglip_sum(rectangle, bias, Call(gpu.backend))
    twins = [x.detach().cpu().double().requires_grad_() for x in leaves]
    true_row_loss = exact.siglip_sum(*twins, shape.positives.offset, True)
    torch.testing.assert_close(row_loss.cpu().double(), true_row_loss, rtol=3e-6, atol=1e-6)
    weights = torch.linspace(-1.0, 1.5, shape.M)
    grads = torch.autograd.grad((weights.to(gpu.device) * row_loss).sum(), leaves)
    true_grads = torch.autograd.grad((weights * true_row_loss).sum(), twins)
    for grad, true in zip(grads, true_grads, strict=True):
        assert distance(grad.cpu(), true) <= 5e-6 * true.norm().item() + 1e-6


def test_several_panels_and_blocks_add_up(gpu, monkeypatch):
    monkeypatch.setattr(sigmoid, "PANEL_COLS", 256)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", ((1 << 31, 256 * 256 * 2),))
    image, text = planted_features(square(300, 24), "random")
    inputs = image, text, torch.tensor(10.0), torch.tensor(-5.0)
    one, two = run(gpu, *inputs), run(gpu, *inputs, reduction="none")
    check(one, *inputs)
    check((two[0].mean(), [grad / 300 for grad in two[1]]), *inputs)


def test_softplus_and_sigmoid_keep_relative_accuracy(gpu):
    logits = torch.cat([torch.linspace(-80, 80, 401), torch.tensor([0.0, -1e-6, 1e-6, 200.0])])
    rows = logits[:, None].to(gpu.device).requires_grad_()
    one, zero = torch.ones((), device=gpu.device), torch.zeros((), device=gpu.device)
    rectangle = Rectangle(rows, torch.ones(1, 1, device=gpu.device), one, None)
    row_loss, _ = siglip_sum(rectangle, zero, Call(gpu.backend))
    true = torch.nn.functional.softplus(logits.double(), threshold=100.0)
    # Below zero the error of the logit is that of the result: operands have 22 bits.
    torch.testing.assert_close(row_loss.detach().cpu().double(), true, rtol=80 * 2.0**-22, atol=0)
    (grad,) = torch.autograd.grad(row_loss.sum(), rows)
    true_grad = logits.double().sigmoid()
    torch.testing.assert_close(
        grad[:, 0].cpu().double(), true_grad, rtol=80 * 2.0**-22, atol=2.0**-47
    )


def test_float16_gradients_of_a_sum_do_not_overflow(gpu):
    """Each row's gradient of the sum is above 65,504; that of the mean is not."""
    image, text = planted_features(square(140, 8), "cone", torch.float16)
    inputs = image, text, torch.tensor(1000.0), torch.tensor(0.0)
    _, grads = run(gpu, *inputs)
    assert grads[0].isfinite().all()
    _, true = exact.value_and_grads(exact.siglip_loss, *inputs, dtype=torch.float64)
    assert (140 * true[0]).norm(dim=1).max() > 65504
    assert distance(grads[0], true[0]) < 2e-3 * true[0].norm()


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_side(gpu, frozen):
    image, text = planted_features(square(140, 24), "random")
    inputs = image, text, torch.tensor(10.0), torch.tensor(-5.0)
    leaves = [x.to(gpu.device).requires_grad_(i != frozen) for i, x in enumerate(inputs)]
    fastclip.siglip_loss(*leaves, backend=gpu.backend).backward()
    assert leaves[frozen].grad is None
    _, true = exact.value_and_grads(exact.siglip_loss, *inputs, dtype=torch.float64)
    for i, leaf in enumerate(leaves):
        if i != frozen:
            assert distance(leaf.grad.cpu(), true[i]) <= 5e-6 * true[i].norm()


def test_a_second_derivative_raises(gpu):
    image, text = planted_features(square(20, 8), "random")
    inputs = image, text, torch.tensor(10.0), torch.tensor(-5.0)
    leaves = [x.to(gpu.device).requires_grad_() for x in inputs]
    loss = fastclip.siglip_loss(*leaves, backend=gpu.backend)
    (grad, *_) = torch.autograd.grad(loss, leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(grad.sum(), leaves)
