"""NT-Xent against a cross-entropy of all views with all views."""

import pytest
import torch

import fastclip
from tests.support.dense import (
    ONE_BLOCK,
    PROBLEMS,
    check_exact,
    check_float32,
    check_memory,
    cross_entropy,
    unit,
    views,
)


def dense(z0, z1, scale):
    N, z = len(z0), unit(torch.cat([z0, z1]))
    scores = (scale * z @ z.T).masked_fill(torch.eye(2 * N, dtype=torch.bool), float("-inf"))
    return cross_entropy(scores, torch.arange(2 * N).roll(N))


def loss_by(backend, **options):
    return lambda z0, z1, scale: fastclip.nt_xent_loss(
        z0, z1, logit_scale=scale, backend=backend, **options
    )


@pytest.mark.parametrize("kind, scale", PROBLEMS)
def test_it_is_the_cross_entropy_of_all_views(backend, kind, scale):
    features = views(2, 37, 16, kind)
    check_exact(loss_by(backend), dense, features, scale)
    check_float32(loss_by(backend), dense, features, scale, roundings=2)


def test_no_tensor_has_the_size_of_all_scores():
    check_memory(loss_by("chunked", workspace=ONE_BLOCK), views(2, 2048, 8))


def test_the_module_has_lightlys_call():
    z0, z1 = views(2, 9, 5)
    torch.testing.assert_close(fastclip.NTXentLoss()(z0, z1), dense(z0, z1, 2.0))
    torch.testing.assert_close(fastclip.NTXentLoss(0.1)(z0, z1), dense(z0, z1, 10.0))
    losses = fastclip.NTXentLoss(0.1, reduction="none")(z0, z1)
    assert losses.shape == (18,)
    torch.testing.assert_close(losses.mean(), dense(z0, z1, 10.0))
    with pytest.raises(ValueError, match="one number by two names"):
        fastclip.NTXentLoss(0.1)(z0, z1, logit_scale=10.0)


def test_two_views_alone_have_no_loss(backend):
    z0, z1 = (x.requires_grad_() for x in views(2, 1, 5))
    loss = fastclip.nt_xent_loss(z0, z1, backend=backend)
    loss.backward()
    assert loss == 0 and not z0.grad.any() and not z1.grad.any()


def test_a_view_may_be_frozen():
    z0, z1 = views(2, 9, 5)
    z0.requires_grad_()
    (grad,) = torch.autograd.grad(fastclip.nt_xent_loss(z0, z1, 0.1), z0)
    (expected,) = torch.autograd.grad(dense(z0, z1, 10.0), z0)
    torch.testing.assert_close(grad, expected)


def test_bad_input_is_named():
    z = torch.ones(4, 3)
    with pytest.raises(ValueError, match="z0 and z1 must have the same B"):
        fastclip.nt_xent_loss(z, z[1:])
    with pytest.raises(TypeError, match=r"z1 must be a torch\.Tensor, got NoneType"):
        fastclip.NTXentLoss()(z, None)
