"""What rows leave out, with Triton's kernels and the tiles of several architectures."""

import pytest
import torch
import triton.language as tl

from fastclip import reference
from fastclip.backends.reference import leave_out
from fastclip.backends.triton.tiles import simulated_architecture
from fastclip.benchmarks.cases import Shape, make_features
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.ops.siglip_total import siglip_total
from fastclip.rectangle import Diagonal, Interval, Rectangle
from tests.support.interpreter import few_programs
from tests.support.tolerance import distance

pytestmark = [
    pytest.mark.rehearsal,
    pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter needs the CPU"),
    # numpy, which interprets the kernels, warns of what they overwrite.
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:All-NaN slice encountered:RuntimeWarning"),
]
SHAPE = Shape("of several tiles", 150, 300, 24, Diagonal(70))
EVERY_COLUMN, EMPTY, LAST = 5, 9, 149  # rows


@pytest.fixture
def tiles(request, monkeypatch):
    """Those of the architecture that is the parameter."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    few_programs(monkeypatch)
    with simulated_architecture(request.param):
        yield request.param


def interval(M: int = SHAPE.M, N: int = SHAPE.N) -> Interval:
    """In no order: around the pair, far from it, of one column at a tile's edge, of all, of none,
    beyond the edges."""
    row = torch.arange(M, dtype=torch.int32)
    begin, end = row + 68, row + 73
    begin[1::4], end[1::4] = 255 - row[1::4] % 3, 256
    begin[2::4], end[2::4] = 127, 128
    begin[EMPTY], end[EMPTY] = 200, 20
    begin[EVERY_COLUMN], end[EVERY_COLUMN] = -7, 2**31 - 1
    begin[LAST], end[LAST] = N - 1, N + 5
    return Interval(begin, end)


def rectangle(dtype: torch.dtype, scale: float, data: str = "random") -> Rectangle:
    rows, cols = make_features(SHAPE, data, dtype)
    leaves = [x.requires_grad_() for x in (rows, cols, torch.tensor(scale))]
    return Rectangle(*leaves, SHAPE.positives, interval())


def in_float64(of: Rectangle) -> Rectangle:
    twins = [x.detach().double().requires_grad_() for x in of[:3]]
    return of._replace(rows=twins[0], cols=twins[1], logit_scale=twins[2])


def check_gradients(found, true, of: Rectangle, twin: Rectangle, tolerance: float, *scalars):
    leaves, twins = [*of[:3], *(x for x, _ in scalars)], [*twin[:3], *(x for _, x in scalars)]
    grads, truths = torch.autograd.grad(found, leaves), torch.autograd.grad(true, twins)
    for grad, truth in zip(grads, truths, strict=True):
        assert distance(grad, truth) <= tolerance * truth.norm().item() + 1e-6


def check_statistics(of: Rectangle, call: Call, tolerance: float, needs_maximum: bool = False):
    """Of every row and column, and the gradients of a weighted sum; returns shifts and totals."""
    positive, shift, total, _ = contrastive_lse(of, call, needs_maximum)
    twin = in_float64(of)
    truth = reference.statistics(twin)
    true_lse = torch.cat([truth.rows, truth.columns])
    there = true_lse.isfinite()
    close = {"rtol": 0.0, "atol": tolerance * max(1.0, of.logit_scale.item())}
    torch.testing.assert_close(positive.double(), truth.positive, **close)
    lse = shift.double() + total.double().log()
    torch.testing.assert_close(lse, true_lse, **close)
    assert torch.equal(shift == -torch.inf, ~there) and (total[~there] == 1).all()
    assert not there[EVERY_COLUMN]
    weights = torch.linspace(-1.0, 1.5, len(total))
    row_weights = torch.linspace(2.0, -0.5, len(positive))
    # What is missing has a gradient that must not count.
    loss = (weights * total.log()).sum() + (row_weights * positive).sum()
    true_loss = (weights * true_lse)[there].sum() + (row_weights * truth.positive).sum()
    check_gradients(loss, true_loss, of, twin, 5 * tolerance)
    return shift, total


# By pairs: tiles differ in how columns are summed, in pointers and descriptors.
@pytest.mark.parametrize(
    "tiles, dtype, kept_rows",
    [
        ("sm_80", torch.float16, 100), ("sm_90", torch.float32, 0), ("sm_90", torch.float32, 150),
        ("sm_100", torch.float16, 0),
    ],
    indirect=["tiles"],
)  # fmt: skip
def test_statistics_and_gradients(tiles, dtype, kept_rows):
    tolerance = 1e-5 if dtype == torch.float32 else 2e-3
    check_statistics(rectangle(dtype, 30.0), Call("triton", kept_rows=kept_rows), tolerance)


@pytest.mark.parametrize("tiles", ["sm_90", "sm_100"], indirect=True)
def test_the_largest_negatives(tiles):
    of = rectangle(torch.float32, 30.0)
    shift, total = check_statistics(of, Call("triton"), 1e-5, needs_maximum=True)
    logits = (of.logit_scale * of.rows @ of.cols.T).detach().double()
    leave_out(of, logits, -torch.inf)
    logits.diagonal(SHAPE.positives.offset).fill_(-torch.inf)
    maxima = torch.cat([logits.amax(1), logits.amax(0)])
    torch.testing.assert_close(shift.double(), maxima, rtol=0.0, atol=1e-4)
    assert (total >= 1 - 1e-5).all()


@pytest.mark.parametrize("tiles", ["sm_80", "sm_90"], indirect=True)
def test_the_rescue_of_rows_and_of_columns(tiles, monkeypatch):
    """All that a row, or a column, does not leave out is opposite to it; what it leaves out is
    along it, and would be its sum."""
    axis = torch.nn.functional.normalize(torch.randn(1, SHAPE.D), dim=1)
    near = 0.05 * torch.randn(SHAPE.M + SHAPE.N, SHAPE.D)
    row_signs, col_signs = torch.ones(SHAPE.M), -torch.ones(SHAPE.N)
    row_signs[:40], col_signs[200:] = 1.0, 1.0
    rows = torch.nn.functional.normalize(row_signs[:, None] * axis + near[: SHAPE.M], dim=1)
    cols = torch.nn.functional.normalize(col_signs[:, None] * axis + near[SHAPE.M :], dim=1)
    begin = torch.full((SHAPE.M,), 200, dtype=torch.int32)
    end = torch.full((SHAPE.M,), SHAPE.N, dtype=torch.int32)
    begin[EVERY_COLUMN] = 0
    # Column 250 has negatives, the last 10 rows, of which none is along it.
    rows[-10:] = -rows[-10:]
    end[-10:] = 250
    leaves = [x.requires_grad_() for x in (rows, cols, torch.tensor(100.0))]
    of = Rectangle(*leaves, SHAPE.positives, Interval(begin, end))
    shift, _ = check_statistics(of, Call("triton"), 1e-5)
    rescued = shift.isfinite() & (shift < -50)
    assert rescued[:40].any() and rescued[SHAPE.M :].any()
    monkeypatch.setattr("fastclip.backends.triton.finalise.TRUSTED", tl.constexpr(0.0))
    with pytest.raises(AssertionError):
        check_statistics(of, Call("triton"), 1e-5)


@pytest.mark.parametrize(
    "tiles, dtype",
    [("sm_80", torch.float32), ("sm_90", torch.float16), ("sm_100", torch.float32)],
    indirect=["tiles"],
)
def test_sigmoid_losses_and_gradients_in_one_pass_and_in_two(tiles, dtype):
    of, tolerance = rectangle(dtype, 10.0), 1e-5 if dtype == torch.float32 else 2e-3
    bias = torch.tensor(-3.0, requires_grad=True)
    twin, true_bias = in_float64(of), torch.tensor(-3.0).double().requires_grad_()
    truth = reference.sigmoid_sums(twin, true_bias)
    row_loss, _ = siglip_sum(of, bias, Call("triton"))
    torch.testing.assert_close(row_loss.double(), truth, rtol=tolerance, atol=10 * tolerance)
    weights = torch.linspace(-1.0, 1.5, SHAPE.M)
    losses = (weights * row_loss).sum(), (weights * truth).sum()
    check_gradients(*losses, of, twin, 5 * tolerance, (bias, true_bias))
    truth = reference.sigmoid_sums(twin, true_bias).sum()
    total = siglip_total(of, bias, Call("triton", one_pass=True))
    check_gradients(total, truth, of, twin, 5 * tolerance, (bias, true_bias))


def test_empty_intervals_change_no_bit(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    few_programs(monkeypatch)
    of = rectangle(torch.float32, 30.0)
    begin, end = of.excluded
    begin[:], end[:] = 128, 128  # empty
    results = []
    for excluded in (Interval(begin, end), None):
        _, shift, total, _ = contrastive_lse(of._replace(excluded=excluded), Call("triton"))
        results.append((shift, total, *torch.autograd.grad(total.log().sum(), of[:3])))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
