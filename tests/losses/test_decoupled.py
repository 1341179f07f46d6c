"""DCL and InfoLOOB, whose denominators have no positive, against all scores."""

import pytest
import torch

import fastclip
from tests.support.dense import (
    ONE_BLOCK,
    PROBLEMS,
    check_exact,
    check_float32,
    check_memory,
    unit,
    views,
)


def dense_dcl(z0, z1, scale, sigma=None):
    z0, z1, N = unit(z0), unit(z1), len(z0)
    z = torch.cat([z0, z1])
    same_sample = torch.eye(N, dtype=torch.bool).repeat(2, 2)
    negatives = (scale * z @ z.T).masked_fill(same_sample, float("-inf")).logsumexp(1)
    cosines = (z0 * z1).sum(1)
    weights = torch.ones(N, dtype=z.dtype)
    if sigma is not None:
        weights = 2 - (cosines.detach() / sigma).softmax(0) * N
    return (negatives - (scale * weights * cosines).repeat(2)).mean()


def dense_info_loob(images, texts, scale):
    scores = scale * unit(images) @ unit(texts).T
    negatives = scores.masked_fill(torch.eye(len(images), dtype=torch.bool), float("-inf"))
    both = (negatives.logsumexp(1) + negatives.logsumexp(0)) / 2
    return (both - scores.diagonal()).mean()


def loss_by(name, backend, **options):
    return lambda x, y, scale: getattr(fastclip, name)(
        x, y, logit_scale=scale, backend=backend, **options
    )


@pytest.mark.parametrize("kind, scale", PROBLEMS)
def test_dcl_is_the_decoupled_cross_entropy(backend, kind, scale):
    features = views(2, 37, 16, kind)
    for check in (check_exact, check_float32):
        check(loss_by("dcl_loss", backend), dense_dcl, features, scale)
    check_exact(loss_by("dcl_loss", backend, sigma=0.5),
                lambda *inputs: dense_dcl(*inputs, sigma=0.5), features, scale)  # fmt: skip


@pytest.mark.parametrize("kind, scale", PROBLEMS)
def test_info_loob_is_that_of_the_negatives(backend, kind, scale):
    features = views(2, 37, 16, kind)
    for check in (check_exact, check_float32):
        check(loss_by("info_loob_loss", backend), dense_info_loob, features, scale)


def test_no_tensor_has_the_size_of_all_scores():
    for name in ("dcl_loss", "info_loob_loss"):
        check_memory(loss_by(name, "chunked", workspace=ONE_BLOCK), views(2, 2048, 8))


def test_modules_keep_their_options():
    x, y = views(2, 9, 5)
    torch.testing.assert_close(fastclip.DCLLoss()(x, y), dense_dcl(x, y, 10.0))
    torch.testing.assert_close(fastclip.DCLLoss(0.5, sigma=0.4)(x, y), dense_dcl(x, y, 2.0, 0.4))
    torch.testing.assert_close(fastclip.InfoLOOBLoss()(x, y), dense_info_loob(x, y, 30.0))
    torch.testing.assert_close(fastclip.InfoLOOBLoss()(x, y, 9.0), dense_info_loob(x, y, 9.0))
    for loss, size in ((fastclip.DCLLoss, 18), (fastclip.InfoLOOBLoss, 9)):
        losses = loss(reduction="none")(x, y)
        assert losses.shape == (size,)
        torch.testing.assert_close(losses.mean(), loss()(x, y))


def test_bad_input_is_named():
    x = torch.ones(4, 3)
    for loss in (fastclip.DCLLoss(), fastclip.InfoLOOBLoss()):
        with pytest.raises(ValueError, match="one pair alone has no negatives"):
            loss(x[:1], x[:1])
        with pytest.raises(ValueError, match="must have the same B"):
            loss(x, x[1:])
    with pytest.raises(ValueError, match="sigma must be finite and > 0, got 0"):
        fastclip.DCLLoss(sigma=0)
    with pytest.raises(TypeError, match="sigma must be a number, got str"):
        fastclip.dcl_loss(x, x, sigma="0.5")
    with pytest.raises(TypeError, match="unexpected keyword argument 'weight_fn'"):
        fastclip.DCLLoss(weight_fn=None)
