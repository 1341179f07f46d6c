"""Intervals over several tiles, panels and chunks: the backends that take them, and `reference`."""

import pytest
import torch
from torch import Tensor

from fastclip.ops import dispatch
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.ops.total_sigmoid_loss import total_sigmoid_loss
from fastclip.rectangle import BOTH, COLUMNS, ROWS, Diagonal, Interval, Rectangle
from tests.support.backends import AVAILABLE, FUSED
from tests.support.pairwise import cover_pairs
from tests.support.tolerance import distance

D = 7
SHAPES = [(700, 700), (300, 2200), (2200, 300)]
PAIRS = [Diagonal(0), Diagonal(-120), Diagonal(150), None]
# Bytes: all logits kept, none, and those of some rows; of `chunked`, the size of a block.
WORKSPACES = [None, 0, 1 << 20]


def in_order_of_ids(M: int, N: int) -> Interval:
    """Rows and columns of 40 ids, both sorted by them: pairs are inside."""
    row_ids, col_ids = (torch.arange(n) * 40 // n for n in (M, N))
    begin = torch.searchsorted(col_ids, row_ids, out_int32=True)
    return Interval(begin, torch.searchsorted(col_ids, row_ids, out_int32=True, right=True))


def in_no_order(M: int, N: int) -> Interval:
    """Of any length, some beyond the edges, some empty, some of all columns."""
    generator = torch.Generator().manual_seed(5)
    begin = torch.randint(-N, N, (M,), generator=generator, dtype=torch.int32)
    end = begin + torch.randint(-N // 4, N, (M,), generator=generator, dtype=torch.int32)
    begin[::7], end[::7] = -(2**31), 2**31 - 1
    return Interval(begin, end)


def of_few_rows(M: int, N: int) -> Interval:
    """Empty ones but for three rows, of a single column each: the first, the last, their own."""
    begin = torch.full((M,), N // 3, dtype=torch.int32)
    end = begin - 1
    for i, j in ((0, 0), (M // 2, N - 1), (M - 1, M - 1)):
        begin[i], end[i] = j, j + 1
    return Interval(begin, end)


INTERVALS = [in_order_of_ids, in_no_order, of_few_rows]


def rectangle_of(M: int, N: int, dtype: torch.dtype = torch.float64, **fields) -> Rectangle:
    generator = torch.Generator().manual_seed(1)
    rows, cols = (torch.randn(n, D, generator=generator, dtype=torch.float64) for n in (M, N))
    scale = torch.tensor(1.7).to(torch.promote_types(dtype, torch.float32))
    leaves = (x.to(dtype).requires_grad_() for x in (rows, cols))
    return Rectangle(*leaves, scale.requires_grad_(), **fields)


Results = tuple[list[Tensor], tuple[Tensor, ...]]  # values; gradients, of rows and columns first


def softmax_results(rectangle: Rectangle, backend: str, workspace: int | None = None) -> Results:
    """Positives and log-sum-exps, 0 for none."""
    call = dispatch.plan("contrastive_lse", backend, rectangle, workspace)
    positive, shift, total, _ = contrastive_lse(rectangle, call)
    seen = shift > float("-inf")
    lse = torch.where(seen, shift, 0.0) + total.log()
    weights = (torch.linspace(-1.0, 1.5, len(x), dtype=x.dtype) for x in (positive, lse))
    value = sum((weight * x).sum() for weight, x in zip(weights, (positive, lse), strict=True))
    return [positive.detach(), lse.detach()], torch.autograd.grad(value, rectangle[:3])


def sigmoid_results(rectangle: Rectangle, backend: str, workspace: int | None = None) -> Results:
    """Losses of the rows."""
    bias = torch.tensor(-0.9, dtype=rectangle.logit_scale.dtype, requires_grad=True)
    call = dispatch.plan("siglip_sum", backend, rectangle, workspace, bias)
    row_loss, _ = siglip_sum(rectangle, bias, call)
    value = (torch.linspace(-1.0, 1.5, len(row_loss), dtype=row_loss.dtype) * row_loss).sum()
    return [row_loss.detach()], torch.autograd.grad(value, (*rectangle[:3], bias))


def total_results(rectangle: Rectangle, backend: str, workspace: int | None = None) -> Results:
    """The sum of all losses, in one pass where the backend has one."""
    bias = torch.tensor(-0.9, dtype=rectangle.logit_scale.dtype, requires_grad=True)
    call = dispatch.plan("siglip_total", backend, rectangle, workspace, bias)
    total = total_sigmoid_loss(rectangle, bias, call)
    return [total.detach()], torch.autograd.grad(-0.3 * total, (*rectangle[:3], bias))


RESULTS = [softmax_results, sigmoid_results, total_results]


def all_of(results: Results) -> list[Tensor]:
    values, gradients = results
    return [*values, *gradients]


def skip_unless_taken(backend: str) -> None:
    why = dispatch.objection(backend, "cpu", torch.float64, True)
    if why is not None:
        pytest.skip(f"{backend}: {why}")


@pytest.mark.parametrize(
    "fused_backend, results, shape, of, positives, workspace, sides, normalize",
    cover_pairs(
        FUSED, RESULTS, SHAPES, INTERVALS, PAIRS, WORKSPACES, [BOTH, ROWS, COLUMNS], [False, True]
    ),
)
def test_they_are_those_of_the_reference(
    fused_backend, results, shape, of, positives, workspace, sides, normalize
):
    skip_unless_taken(fused_backend)
    fields = {"positives": positives, "sides": sides, "normalize": normalize}
    rectangle = rectangle_of(*shape, excluded=of(*shape), **fields)
    actual = results(rectangle, fused_backend, workspace)
    torch.testing.assert_close(actual, results(rectangle, "reference"), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "fused_backend, results, dtype, workspace",
    cover_pairs(FUSED, RESULTS, [torch.float32, torch.bfloat16, torch.float16], WORKSPACES),
)
def test_of_features_of_fewer_bits(fused_backend, results, dtype, workspace):
    skip_unless_taken(fused_backend)
    fields = {"positives": Diagonal(3), "excluded": in_order_of_ids(600, 650), "normalize": True}
    rectangle = rectangle_of(600, 650, dtype, **fields)
    twins = (x.detach().double().requires_grad_() for x in rectangle[:3])
    expected = all_of(results(Rectangle(*twins, **fields), "reference"))
    actual = all_of(results(rectangle, fused_backend, workspace))
    for x, true in zip(actual, expected, strict=True):
        eps = torch.finfo(x.dtype).eps
        assert distance(x, true) <= (1e-5 + eps) * true.norm().item()


@pytest.mark.parametrize("results, shape", cover_pairs(RESULTS, SHAPES))
def test_empty_ones_change_no_bit(fused_backend, results, shape):
    skip_unless_taken(fused_backend)
    M, N = shape
    begin = torch.arange(M, dtype=torch.int32)
    found = []
    for excluded in (None, Interval(begin, begin), Interval(begin + N, begin + 2 * N)):
        rectangle = rectangle_of(*shape, positives=Diagonal(0), excluded=excluded)
        found.append(all_of(results(rectangle, fused_backend)))
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize("backend, results, workspace", cover_pairs(AVAILABLE, RESULTS, WORKSPACES))
def test_nan_does_not_reach_a_row_that_sees_nothing(backend, results, workspace):
    """Not even by the statistics of the columns, which the row with nan spoils."""
    skip_unless_taken(backend)
    M, N = 300, 400
    begin, end = torch.zeros(M, dtype=torch.int32), torch.zeros(M, dtype=torch.int32)
    end[5] = N
    rectangle = rectangle_of(M, N, positives=None, excluded=Interval(begin, end))
    with torch.no_grad():
        rectangle.rows[17] = float("nan")
    _, (of_rows, of_cols, *_) = results(rectangle, backend, workspace)
    assert of_cols.isnan().all()
    assert of_rows[6].isnan().all() == (results is softmax_results)
    assert of_rows[5].eq(0).all()
