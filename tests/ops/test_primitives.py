"""The primitives on rectangles: every backend against float64, and against their own schema."""

import pytest
import torch

from fastclip.benchmarks.cases import RECTANGLES
from fastclip.ops import dispatch
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.rectangle import Rectangle
from tests.support import exact
from tests.support.backends import AVAILABLE
from tests.support.inputs import planted_features
from tests.support.pairwise import cover_pairs

each_pair = pytest.mark.parametrize(
    "backend, shape, normalize", cover_pairs(AVAILABLE, RECTANGLES, [False, True]), ids=str
)


def planned(primitive, backend, shape, leaves, normalize=False):
    rectangle = Rectangle(*leaves[:3], shape.positives, normalize=normalize)
    return rectangle, dispatch.plan(primitive, backend, rectangle, None)


@each_pair
def test_contrastive_lse_on_rectangles_matches_float64(backend, shape, normalize):
    rows, cols = planted_features(shape, "trained", torch.float64)
    scale = torch.tensor(7.0, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for x in (2 * rows, 3 * cols, scale)]
    planned_call = planned("contrastive_lse", backend, shape, leaves, normalize)
    positive, maximum, total, _ = contrastive_lse(*planned_call)
    twins = [x.detach().clone().requires_grad_() for x in leaves]
    true_positive, true_lse = exact.contrastive_lse(*twins, shape.positives.offset, normalize)
    torch.testing.assert_close(positive, true_positive)
    torch.testing.assert_close(maximum + total.log(), true_lse)

    # A loss that uses every output, with weights of both signs; empty sums have no gradient.
    present = true_lse.isfinite()
    weights = torch.linspace(-1.0, 1.5, len(total), dtype=torch.float64)
    row_weights = torch.linspace(2.0, -0.5, len(positive), dtype=torch.float64)
    loss = (weights * total.log())[present].sum() + (row_weights * positive).sum()
    true_loss = (weights * true_lse)[present].sum() + (row_weights * true_positive).sum()
    grads = torch.autograd.grad(loss, leaves)
    true_grads = torch.autograd.grad(true_loss, twins)
    torch.testing.assert_close(grads, true_grads, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape", RECTANGLES, ids=str)
def test_contrastive_lse_maximum_is_that_of_the_negatives(backend, shape):
    rows, cols = planted_features(shape, "random", torch.float64)
    scale = torch.tensor(7.0, dtype=torch.float64)
    rectangle = Rectangle(rows, cols, scale, shape.positives)
    _, maximum, total, _ = contrastive_lse(rectangle, Call(backend), needs_maximum=True)
    negatives = 7.0 * rows @ cols.T
    negatives.diagonal(shape.positives.offset).fill_(float("-inf"))
    expected = torch.cat([negatives.amax(1), negatives.amax(0)])
    torch.testing.assert_close(maximum, expected)
    assert (total[maximum == float("-inf")] == 1).all()


@each_pair
def test_siglip_sum_on_rectangles_matches_float64(backend, shape, normalize):
    rows, cols = planted_features(shape, "trained", torch.float64)
    scalars = torch.tensor(7.0, dtype=torch.float64), torch.tensor(-3.0, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for x in (2 * rows, 3 * cols, *scalars)]
    rectangle, call = planned("siglip_sum", backend, shape, leaves, normalize)
    row_loss, _ = siglip_sum(rectangle, leaves[3], call)
    twins = [x.detach().clone().requires_grad_() for x in leaves]
    true_row_loss = exact.siglip_sum(*twins, shape.positives.offset, normalize)
    torch.testing.assert_close(row_loss, true_row_loss)
    weights = torch.linspace(-1.0, 1.5, shape.M, dtype=torch.float64)
    grads = torch.autograd.grad((weights * row_loss).sum(), leaves)
    true_grads = torch.autograd.grad((weights * true_row_loss).sum(), twins)
    torch.testing.assert_close(grads, true_grads, rtol=1e-8, atol=1e-10)


def test_softplus_and_sigmoid_keep_relative_accuracy(backend):
    """siglip_sum of M rows and one column is the function softplus itself, its gradient sigmoid."""
    logits = torch.cat([torch.linspace(-80, 80, 4001), torch.tensor([0.0, -1e-6, 1e-6, 200.0])])
    rows = logits[:, None].clone().requires_grad_()
    one, zero = torch.ones(()), torch.zeros(())
    row_loss, _ = siglip_sum(Rectangle(rows, torch.ones(1, 1), one, None), zero, Call(backend))
    true = torch.nn.functional.softplus(logits.double(), threshold=100.0)
    torch.testing.assert_close(row_loss.double(), true, rtol=6e-7, atol=0)
    (grad,) = torch.autograd.grad(row_loss.sum(), rows)
    # Gradients below 2^-100 of the largest, exp(-69.3), may be zero.
    true_grad = logits.double().sigmoid()
    torch.testing.assert_close(grad[:, 0].double(), true_grad, rtol=6e-7, atol=2.0**-99)
