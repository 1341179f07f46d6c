"""The cross-entropy of rows, of columns and of both, against torch's own in float64."""

import pytest
import torch
import torch.nn.functional as F

import fastclip
from fastclip.ops import dispatch
from fastclip.ops.cross_entropy import cross_entropy
from fastclip.ops.dispatch import Call
from fastclip.rectangle import BOTH, COLUMNS, ROWS, Diagonal, Interval, Rectangle, Sides
from tests.support.backends import AVAILABLE
from tests.support.pairwise import cover_pairs


def features(size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 5, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize(
    "backend, problem, mean",
    cover_pairs(
        AVAILABLE,
        [(ROWS, 7, 12, 3), (ROWS, 7, 7, 0), (COLUMNS, 12, 7, -4), (COLUMNS, 7, 7, 0),
         (BOTH, 7, 7, 0)],
        [True, False],
    ),
)  # fmt: skip
def test_it_is_torchs_cross_entropy_of_the_sides(backend, problem, mean):
    sides, M, N, offset = problem
    rows, cols, scale = features(M, 0), features(N, 1), torch.tensor(1.7, dtype=torch.float64)
    rectangle = Rectangle(rows, cols, scale, Diagonal(offset), sides=sides)
    call = dispatch.plan("contrastive_lse", backend, rectangle, None)
    found = cross_entropy(rectangle, call, mean, needs_maximum=True)
    logits = scale * rows @ cols.T
    of_sides = [
        F.cross_entropy(x, torch.arange(len(x)) + first, reduction="none")
        for x, first, wanted in zip((logits, logits.T), (offset, -offset), sides, strict=True)
        if wanted
    ]
    true = torch.stack(of_sides).mean(0)
    torch.testing.assert_close(found.loss, true.mean() if mean else true)
    assert found.positive.shape == true.shape
    assert found.shift.shape == (len(of_sides), len(true))
    negatives = logits.detach().clone()
    negatives.diagonal(offset).fill_(float("-inf"))
    largest = [negatives.amax(1 - i) for i in (0, 1) if sides[i]]
    torch.testing.assert_close(found.shift, torch.stack(largest))
    torch.testing.assert_close(found.positive, logits.detach().diagonal(offset))
    grads = torch.autograd.grad(found.loss.sum(), (rows, cols), retain_graph=True)
    true_loss = true.mean() if mean else true.sum()
    torch.testing.assert_close(grads, torch.autograd.grad(true_loss, (rows, cols)))


def test_rows_and_columns_are_the_two_halves_of_the_loss(backend):
    rows, cols, scale = features(9, 0), features(9, 1), torch.tensor(1.7, dtype=torch.float64)
    halves = []
    for sides in (ROWS, COLUMNS):
        rectangle = Rectangle(rows, cols, scale, Diagonal(0), sides=sides)
        call = dispatch.plan("contrastive_lse", backend, rectangle, None)
        halves.append(cross_entropy(rectangle, call).loss)
    torch.testing.assert_close(
        sum(halves) / 2, fastclip.clip_loss(rows, cols, scale, backend=backend)
    )


def test_an_interval_is_never_overlooked(backend):
    scale, first = torch.tensor(1.0, dtype=torch.float64), torch.arange(7, dtype=torch.int32)
    square = Rectangle(features(7, 0), features(7, 1), scale, Diagonal(0))
    rectangle = square._replace(excluded=Interval(first, first + 2))
    loss = cross_entropy(rectangle, Call(backend)).loss
    assert loss < cross_entropy(square, Call(backend)).loss
    torch.testing.assert_close(loss, cross_entropy(rectangle, Call("reference")).loss)


@pytest.mark.parametrize(
    "sides, M, N, positives",
    [
        (ROWS, 7, 7, Diagonal(1)),
        (ROWS, 8, 7, Diagonal(0)),
        (ROWS, 7, 9, Diagonal(-1)),
        (COLUMNS, 7, 8, Diagonal(0)),
        (COLUMNS, 9, 7, Diagonal(1)),
        (BOTH, 7, 8, Diagonal(0)),
        (BOTH, 7, 7, None),
        (Sides(False, False), 7, 7, Diagonal(0)),
    ],
)
def test_what_has_no_pair_has_no_cross_entropy(sides, M, N, positives):
    scale = torch.tensor(1.0, dtype=torch.float64)
    rectangle = Rectangle(features(M, 0), features(N, 1), scale, positives, sides=sides)
    call = dispatch.plan("contrastive_lse", "chunked", rectangle, None)
    with pytest.raises(ValueError, match=f"must have a pair, got .* in {M} x {N} logits"):
        cross_entropy(rectangle, call)
