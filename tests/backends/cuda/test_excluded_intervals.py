"""Both sets of CUDA kernels leave out what intervals say."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip import reference
from fastclip.backends.cuda.variants import VARIANTS, chosen_variant
from fastclip.backends.gpu import blocks, partials
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.ops.siglip_total import siglip_total
from fastclip.rectangle import Diagonal, Interval, Rectangle
from tests.support import plans
from tests.support.emulator import emulated
from tests.support.tolerance import distance

pytestmark = [
    pytest.mark.rehearsal,
    pytest.mark.skipif(torch.cuda.is_available(), reason="about the emulator"),
]

INF = float("inf")
LEAST, MOST = -(2**31), 2**31 - 1
M, N, D, OFFSET = 300, 270, 24, -20  # two tiles of 256 rows and columns, three of 128
SEES_ALL = slice(64, 128)  # rows: two warps of the portable kernels, four of Hopper's
SEES_NOTHING = 5


@pytest.fixture(params=VARIANTS)
def variant(request):
    with emulated(), chosen_variant(request.param):
        yield request.param


def int32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def intervals() -> Interval:
    """In no order: short ones, long ones, empty ones, and some that reach far beyond the matrix."""
    generator = torch.Generator().manual_seed(4)
    begin = torch.randint(-5, N + 5, (M,), generator=generator, dtype=torch.int32)
    end = begin + torch.randint(-3, 30, (M,), generator=generator, dtype=torch.int32)
    end[::9] += 150
    begin[SEES_ALL], end[SEES_ALL] = 9, 9
    begin[: 5 + SEES_NOTHING] = int32(LEAST, MOST, 0, 255, N - 1, LEAST, MOST, 7, 30, N)
    end[: 5 + SEES_NOTHING] = int32(3, LEAST, 1, 257, MOST, MOST, MOST, 7, 10, MOST)
    begin[256], end[256] = 256 + OFFSET, 256 + OFFSET + 1  # its own pair
    return Interval(begin, end)


def features(dtype: torch.dtype, interval: Interval) -> tuple[Tensor, Tensor]:
    """What a row leaves out would be its hardest negative: the first column and the last one."""
    generator = torch.Generator().manual_seed(1)
    rows = F.normalize(torch.randn(M, D, generator=generator), dim=1)
    cols = F.normalize(torch.randn(N, D, generator=generator), dim=1)
    for i in range(M):
        begin, end = max(int(interval.begin[i]), 0), min(int(interval.end[i]), N)
        if begin < end:
            cols[[begin, end - 1]] += rows[i]
    return rows.to(dtype), F.normalize(cols, dim=1).to(dtype)


def rectangle(dtype=torch.float32, scale: float = 20.0, excluded: bool = True) -> Rectangle:
    interval = intervals()
    leaves = (*features(dtype, interval), torch.tensor(scale))
    leaves = [x.requires_grad_() for x in leaves]
    return Rectangle(*leaves, Diagonal(OFFSET), interval if excluded else None)


def truth_of(of: Rectangle) -> Rectangle:
    return of._replace(**{
        name: getattr(of, name).detach().double().requires_grad_()
        for name in ("rows", "cols", "logit_scale")
    })  # fmt: skip


def weighted(positive: Tensor, lse: Tensor) -> Tensor:
    """A scalar of statistics, (M,) and (M + N,); what sees nothing has a gradient of its own."""
    lse = lse.masked_fill(lse == -INF, 0.0)
    weights = torch.linspace(-1.0, 1.5, len(lse), dtype=lse.dtype)
    of_pairs = torch.linspace(2.0, -0.5, len(positive), dtype=positive.dtype)
    return (weights * lse).sum() + (of_pairs * positive).sum()


def statistics(of: Rectangle, call: Call, needs_maximum: bool = False) -> tuple[Tensor, ...]:
    """positive (M,), lse (M + N,), shift (M + N,)"""
    positive, shift, total, _ = contrastive_lse(of, call, needs_maximum)
    assert (total[shift == -INF] == 1).all()
    return positive, shift + total.log(), shift


def true_statistics(of: Rectangle) -> tuple[Tensor, Tensor]:
    found = reference.statistics(of)
    return found.positive, torch.cat([found.rows, found.columns])


class Budget(NamedTuple):
    lse: float  # absolute
    grad: float  # of the norm


BUDGETS = {torch.float32: Budget(3e-5, 1e-5), torch.float16: Budget(2e-2, 4e-3)}


def check(of: Rectangle, call: Call) -> None:
    budget, twin = BUDGETS[of.rows.dtype], truth_of(of)
    positive, lse, _ = statistics(of, call)
    true_positive, true_lse = true_statistics(twin)
    assert torch.equal(lse == -INF, true_lse == -INF) and (lse == -INF).any()
    torch.testing.assert_close(positive.double(), true_positive, rtol=0, atol=budget.lse)
    torch.testing.assert_close(lse.double(), true_lse, rtol=0, atol=budget.lse)
    grads = torch.autograd.grad(weighted(positive, lse), of[:3])
    for grad, true in zip(grads, torch.autograd.grad(weighted(true_positive, true_lse), twin[:3]),
                          strict=True):  # fmt: skip
        assert distance(grad, true) <= budget.grad * true.norm()


@pytest.mark.parametrize(
    "dtype, kept_rows",
    [(torch.float32, 0), (torch.float32, 100), (torch.float16, 0), (torch.float16, M)],
)
def test_statistics_and_gradients_match_float64(variant, dtype, kept_rows):
    check(rectangle(dtype), Call("cuda", kept_rows=kept_rows))


def test_panels_strips_and_blocks_match_float64(variant, monkeypatch):
    monkeypatch.setattr(partials, "PANEL_COLS", 256)
    monkeypatch.setattr(partials, "MOST_STRIPS", 2)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", ((1 << 31, 256 * 256 * 2),))
    check(rectangle(), Call("cuda", kept_rows=37))


def test_maxima_and_gradients_are_of_what_is_seen(variant):
    of = rectangle()
    positive, lse, maximum = statistics(of, Call("cuda"), needs_maximum=True)
    logits = 20.0 * of.rows.double() @ of.cols.double().T
    col = torch.arange(N)
    begin, end = (x[:, None] for x in of.excluded)
    logits.masked_fill_((begin <= col) & (col < end), -INF)
    pairs = logits.diagonal(OFFSET)
    pairs.fill_(-INF)
    expected = torch.cat([logits.amax(1), logits.amax(0)])
    torch.testing.assert_close(maximum.double(), expected, rtol=0, atol=2e-5)
    true_positive, true_lse = true_statistics(truth_of(of))
    torch.testing.assert_close(positive.double(), true_positive, rtol=0, atol=3e-5)
    torch.testing.assert_close(lse.double(), true_lse, rtol=0, atol=3e-5)
    grad, *_ = torch.autograd.grad(lse[lse > -INF].sum(), of.rows)
    assert lse[SEES_NOTHING] == -INF and (grad[SEES_NOTHING] == 0).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_no_bit_depends_on_the_order_of_threads_or_the_time_of_copies(name):
    of, results = rectangle(torch.float16), []
    for seed, early in ((0, False), (1, True)):
        with emulated(seed, early), chosen_variant(name):
            positive, lse, _ = statistics(of, Call("cuda", kept_rows=256))
            results.append([lse, *torch.autograd.grad(weighted(positive, lse), of[:3])])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_what_leaves_out_nothing_keeps_its_bits(variant):
    """Rows whose interval is empty, beside rows whose is not; and every bit where all are empty."""
    plain, call = rectangle(excluded=False), Call("cuda", kept_rows=100)
    empty = Interval(torch.full((M,), 40, dtype=torch.int32), torch.full((M,), 7).int())
    results = []
    for of in (plain, plain._replace(excluded=empty)):
        positive, lse, shift = statistics(of, call)
        bias = torch.tensor(-3.0, requires_grad=True)
        total = siglip_total(of, bias, Call("cuda", one_pass=True))
        loss = weighted(positive, lse) + total
        results.append([positive, lse, shift, total, *torch.autograd.grad(loss, [*of[:3], bias])])
    _, lse, shift = statistics(rectangle(), Call("cuda"))
    for found, expected in zip((lse, shift), results[0][1:3], strict=True):
        assert torch.equal(found[SEES_ALL], expected[SEES_ALL])
        assert not torch.equal(found, expected)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


class TestRescue:
    """All that is seen is opposite, in rows and columns: they are scanned again.

    All rows but one are opposite to all columns but the last. The one is near those columns and
    leaves them out; the last column is near all other rows, which leave it out.
    """

    ONE, SIZE = 133, 200

    def features(self) -> tuple[Tensor, Tensor]:
        axis = F.one_hot(torch.tensor(0), D).float()
        noise = 0.1 * torch.randn(2, self.SIZE, D, generator=torch.Generator().manual_seed(0))
        rows, cols = noise[0] - axis, noise[1] + axis
        rows[self.ONE] *= -1
        cols[-1] *= -1
        return F.normalize(rows, dim=1) + 0.0, F.normalize(cols, dim=1) + 0.0

    def interval(self) -> Interval:
        begin, end = torch.full((2, self.SIZE), self.SIZE, dtype=torch.int32).unbind()
        begin = begin - 1
        begin[self.ONE], end[self.ONE] = -3, self.SIZE - 1
        return Interval(begin.contiguous(), end.contiguous())

    @pytest.mark.parametrize("needs_maximum", [False, True])
    def test_rows_and_columns_are_exact(self, variant, needs_maximum):
        leaves = [x.requires_grad_() for x in (*self.features(), torch.tensor(100.0))]
        of = Rectangle(*leaves, Diagonal(0), self.interval())
        twin = truth_of(of)
        positive, lse, _ = statistics(of, Call("cuda"), needs_maximum)
        true_positive, true_lse = true_statistics(twin)
        assert (true_lse < -20).all() and true_lse.isfinite().all()
        torch.testing.assert_close(lse.double(), true_lse, rtol=0, atol=2e-4)
        grads = torch.autograd.grad(weighted(positive, lse), leaves)
        true = torch.autograd.grad(weighted(true_positive, true_lse), twin[:3])
        for grad, expected in zip(grads, true, strict=True):
            assert distance(grad, expected) <= 1e-4 * expected.norm()

    def test_nothing_else_is_seen(self, variant):
        """One row with nothing to see in a block that is scanned again."""
        begin, end = self.interval()
        end[self.ONE] = MOST
        of = Rectangle(*self.features(), torch.tensor(100.0), Diagonal(0), Interval(begin, end))
        _, lse, _ = statistics(of, Call("cuda"))
        nothing = torch.tensor([self.ONE, 2 * self.SIZE - 1])
        assert torch.equal((lse == -INF).nonzero()[:, 0], nothing)
        _, true_lse = true_statistics(truth_of(of))
        torch.testing.assert_close(lse.double(), true_lse, rtol=0, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_sigmoid_sums_match_float64_in_two_passes_and_in_one(variant, dtype):
    of, bias = rectangle(dtype), torch.tensor(-3.0, requires_grad=True)
    twin, true_bias = truth_of(of), torch.tensor(-3.0, dtype=torch.float64, requires_grad=True)
    true_loss = reference.sigmoid_sums(twin, true_bias)
    rtol = 1e-5 if dtype == torch.float32 else 1e-2
    row_loss, _ = siglip_sum(of, bias, Call("cuda"))
    torch.testing.assert_close(row_loss.double(), true_loss, rtol=rtol, atol=1e-6)
    weights = torch.linspace(-1.0, 1.5, M)
    two = torch.autograd.grad((weights * row_loss).sum(), [*of[:3], bias])
    leaves = [*twin[:3], true_bias]
    true = torch.autograd.grad((weights * true_loss).sum(), leaves, retain_graph=True)
    total = siglip_total(of, bias, Call("cuda", one_pass=True))
    torch.testing.assert_close(total.double(), true_loss.sum(), rtol=rtol, atol=0)
    one = torch.autograd.grad(total, [*of[:3], bias])
    for grads, expected in ((two, true), (one, torch.autograd.grad(true_loss.sum(), leaves))):
        for grad, x in zip(grads, expected, strict=True):
            assert distance(grad, x) <= BUDGETS[dtype].grad * x.norm()


@pytest.mark.parametrize("seed", range(2))
def test_random_plans(variant, seed):
    plans.check(seed, torch.float32, "cuda")
