"""fastclip.siglip_loss: values and gradients of every backend against float64."""

import pytest
import torch

import fastclip
from tests.support import exact
from tests.support.backends import AVAILABLE
from tests.support.inputs import planted_features, square
from tests.support.pairwise import cover_pairs
from tests.support.tolerance import check_value_and_grads

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def run(*inputs, of_rows=False, **options):
    """The mean and its gradients; `of_rows`: from the losses of the rows, which take two passes."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    reduction = "none" if of_rows else "mean"
    loss = fastclip.siglip_loss(*leaves, reduction=reduction, **options).mean()
    return loss.detach(), torch.autograd.grad(loss, leaves)


def scalars(logit_scale, logit_bias, dtype):
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    return torch.tensor(logit_scale, dtype=dtype), torch.tensor(logit_bias, dtype=dtype)


@pytest.mark.parametrize(
    "backend, shape, way",
    cover_pairs(
        AVAILABLE, [(1, 1), (2, 3), (65, 40), (129, 7), (300, 33), (1025, 8)],
        [(False, None), (True, None), (True, 0)],
    ),
    ids=str,
)  # fmt: skip
def test_siglip_loss_ragged_shapes_match_float64(backend, shape, way):
    (N, D), (of_rows, workspace) = shape, way
    inputs = *planted_features(square(N, D), "trained"), *scalars(10.0, -10.0, torch.float32)
    actual = run(*inputs, of_rows=of_rows, backend=backend, workspace=workspace)
    check_value_and_grads(actual, exact.siglip_loss, *inputs)


@pytest.mark.parametrize(
    "backend, data, numbers, dtype, of_rows",
    cover_pairs(
        AVAILABLE,
        ["random", "trained", "adversarial"],
        [(10.0, -10.0), (100.0, -30.0), (1.0, 5.0)],
        DTYPES,
        [False, True],
    ),
)
def test_siglip_loss_data_and_dtypes_match_float64(backend, data, numbers, dtype, of_rows):
    features = planted_features(square(200, 72), data, dtype)
    inputs = *features, *scalars(*numbers, dtype)
    actual = run(*inputs, of_rows=of_rows, backend=backend)
    check_value_and_grads(actual, exact.siglip_loss, *inputs)


@pytest.mark.parametrize(
    "backend, dtype, of_rows", cover_pairs(AVAILABLE, DTYPES, [False, True]), ids=str
)
def test_siglip_loss_normalize_matches_float64(backend, dtype, of_rows):
    image, text = planted_features(square(65, 40), "trained", torch.float64)
    inputs = (3 * image).to(dtype), (0.2 * text).to(dtype), *scalars(10.0, -10.0, dtype)
    actual = run(*inputs, of_rows=of_rows, normalize=True, backend=backend)
    check_value_and_grads(actual, exact.siglip_loss, *inputs, normalize=True)


def test_siglip_loss_mean_whose_sum_has_gradients_beyond_float16(backend):
    features = [torch.full((200, 4), x, dtype=torch.float16) for x in (0.1, 90.0)]
    inputs = *features, *scalars(20.0, 0.0, torch.float16)
    actual = run(*inputs, backend=backend)
    assert 200 * actual[1][0].float().abs().min() > 65504
    check_value_and_grads(actual, exact.siglip_loss, *inputs)


def test_siglip_loss_backward_again_is_the_same(backend):
    """What the first one has overwritten, where no second one can follow, is not read."""
    inputs = *planted_features(square(70, 24), "trained"), *scalars(10.0, -10.0, torch.float32)
    leaves = [x.clone().requires_grad_() for x in inputs]
    loss = 3 * fastclip.siglip_loss(*leaves, backend=backend)
    options = ({"retain_graph": True}, {"create_graph": True}, {"retain_graph": True}, {})
    first, *others = (torch.autograd.grad(loss, leaves, **x) for x in options)
    for again in others:
        torch.testing.assert_close(again, first, rtol=0, atol=0)


def test_siglip_loss_reduction_none_gives_each_row_its_loss_and_gradient(backend):
    inputs = (
        *planted_features(square(70, 24), "trained", torch.float64),
        *scalars(10.0, -10.0, torch.float64),
    )
    weights = torch.linspace(-1.0, 2.0, 70, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for x in inputs]
    twins = [x.clone().requires_grad_() for x in inputs]
    losses = fastclip.siglip_loss(*leaves, reduction="none", backend=backend)
    expected = exact.siglip_loss(*twins, reduction="none")
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(
        torch.autograd.grad((weights * losses).sum(), leaves),
        torch.autograd.grad((weights * expected).sum(), twins),
    )


def test_siglip_loss_bias_as_float_equals_tensor(backend):
    image, text = planted_features(square(40, 16), "random")
    expected = fastclip.siglip_loss(image, text, 10.0, torch.tensor([-10.0]), backend=backend)
    torch.testing.assert_close(
        fastclip.siglip_loss(image, text, 10.0, -10.0, backend=backend), expected, rtol=0, atol=0
    )


@pytest.mark.parametrize("where", ["image", "bias"])
def test_siglip_loss_nan_reaches_the_loss(backend, where):
    image, text = planted_features(square(300, 16), "random")
    bias = torch.tensor(-10.0)
    {"image": image[299, :1], "bias": bias.view(1)}[where].fill_(float("nan"))
    assert fastclip.siglip_loss(image, text, 10.0, bias, backend=backend).isnan()


def test_siglip_loss_under_autocast_is_not_rounded(backend):
    inputs = *planted_features(square(60, 32), "random"), *scalars(10.0, -10.0, torch.float32)
    expected = run(*inputs, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = run(*inputs, backend=backend)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
