"""Sums of exponentials under different shifts, merged: on one process."""

import torch

from fastclip.benchmarks.cases import Shape
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.ops.merge import merge
from fastclip.rectangle import ROWS, Rectangle
from tests.support.inputs import planted_features

INF = float("inf")


def test_merge_is_the_log_sum_exp_of_all_parts():
    logits = 100.0 * torch.randn(5, 40, 7, generator=torch.Generator().manual_seed(0)).double()
    logits[2] = -INF
    shifts = logits.amax(1)
    totals = torch.exp(logits - shifts.masked_fill(shifts == -INF, 0.0)[:, None]).sum(1)
    totals[2] = 1.0
    shift, total = merge(list(zip(shifts, totals, strict=True)))
    assert torch.equal(shift, logits.amax((0, 1)))
    torch.testing.assert_close(shift + total.log(), logits.flatten(0, 1).logsumexp(0))


def test_merge_of_empty_sums_is_empty_and_without_gradient():
    totals = torch.ones(3, 2).requires_grad_()
    shift, total = merge([(torch.full((2,), -INF), x) for x in totals])
    assert (shift == -INF).all() and (total == 1).all()
    total.sum().backward()
    assert (totals.grad == 0).all()


def test_nan_is_not_hidden_by_the_maximum():
    for shifts, totals in [([INF, 1.0], [1.0, 1.0]), ([0.0, float("nan")], [1.0, 1.0]),
                           ([0.0, 1.0], [float("nan"), 1.0])]:  # fmt: skip
        shift, total = merge(
            list(zip(torch.tensor(shifts)[:, None], torch.tensor(totals)[:, None], strict=True))
        )
        assert not (shift + total.log()).isfinite().any()


def of_rows(features, *parts):
    """The statistics of `features` (M, D) against each of `parts` (n, D), without pairs."""
    scale = torch.tensor(20.0, dtype=features.dtype)
    found = []
    for part in parts:
        rectangle = Rectangle(features, part, scale, None, sides=ROWS)
        _, shift, total, _ = contrastive_lse(rectangle, Call("chunked"))
        found.append((shift, total))
    return found


def test_parts_of_the_columns_are_the_whole_rectangle_and_so_are_their_gradients():
    rows, cols = planted_features(Shape("whole", 40, 70, 8), "adversarial", torch.float64)
    rows, cols = rows.requires_grad_(), cols.requires_grad_()
    ((shift, total),) = of_rows(rows, cols)
    merged_shift, merged_total = merge(of_rows(rows, *cols.split([1, 30, 39])))
    torch.testing.assert_close(merged_shift, shift, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged_total, total, rtol=1e-12, atol=0)
    weights = torch.linspace(-1.0, 1.5, 40, dtype=torch.float64)
    grads = [torch.autograd.grad((weights * x.log()).sum(), (rows, cols))
             for x in (merged_total, total)]  # fmt: skip
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-12)


def test_merging_is_associative_and_has_a_neutral_part():
    rows, cols = planted_features(Shape("parts", 40, 90, 8), "random", torch.float64)
    a, b, c = of_rows(rows, *cols.split(30))
    left, right = merge([merge([a, b]), c]), merge([a, merge([b, c])])
    for other in (right, merge([a, b, c]), merge([c, a, b])):
        assert torch.equal(left[0], other[0])
        torch.testing.assert_close(left[1], other[1], rtol=1e-14, atol=0)
    empty = torch.full_like(a[0], -INF), torch.ones_like(a[1])
    for merged in (merge([a, empty]), merge([empty, a])):
        assert all(torch.equal(x, y) for x, y in zip(merged, a, strict=True))


def test_gradients_of_a_merge_are_those_of_its_formula():
    generator = torch.Generator().manual_seed(0)
    shifts = 5 * torch.randn(3, 4, generator=generator, dtype=torch.float64)
    totals = 1 + torch.rand(3, 4, generator=generator, dtype=torch.float64)

    def merged_total(*totals):
        return merge(list(zip(shifts, totals, strict=True)))[1]

    assert torch.autograd.gradcheck(merged_total, [x.clone().requires_grad_() for x in totals])
