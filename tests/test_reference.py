"""The reference of other libraries, and every backend against it on random plans."""

import doctest
import math

import pytest
import torch
import torch.nn.functional as F

import fastclip
from fastclip import reference
from fastclip.ops import dispatch
from fastclip.ops.merge import merge
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.rectangle import BOTH, COLUMNS, ROWS, Diagonal, Interval, Rectangle
from fastclip.reference import Part, Plan
from tests.support import exact, plans
from tests.support.backends import AVAILABLE
from tests.support.pairwise import cover_pairs

PLANS = range(20)
INF = float("inf")


def features(*sizes: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    found = [torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in sizes]
    return [F.normalize(x, dim=1).requires_grad_() for x in found]


@pytest.mark.parametrize(
    "seed, backend, dtype", cover_pairs(PLANS, AVAILABLE, [torch.float64, torch.float32]), ids=str
)
def test_backends_agree_with_the_reference_on_random_plans(backend, seed, dtype):
    plans.check(seed, dtype, backend)


@pytest.mark.parametrize("seed", PLANS)
def test_sigmoid_sums_of_backends_agree_with_the_reference(backend, seed):
    takes_intervals = dispatch.objection(backend, "cpu", torch.float64, True) is None
    random = plans.random_plan(seed, with_intervals=takes_intervals)
    leaves = [x.clone().requires_grad_() for x in (*random.inputs, torch.tensor(-2.5).double())]
    *inputs, bias = leaves
    totals = [inputs[0].new_zeros(()) for _ in range(2)]
    for rectangle in random.make(*inputs).rectangles:
        call = dispatch.plan("siglip_sum", backend, rectangle, None, bias)
        sums = siglip_sum(rectangle, bias, call)[0], reference.sigmoid_sums(rectangle, bias)
        torch.testing.assert_close(*sums, rtol=1e-10, atol=1e-12)
        weights = torch.linspace(-1.0, 1.5, len(sums[0]), dtype=torch.float64)
        totals = [total + (weights * x).sum() for total, x in zip(totals, sums, strict=True)]
    grads = [torch.autograd.grad(x, leaves, allow_unused=True) for x in totals]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


def test_random_plans_have_what_they_are_meant_to_have():
    rectangles, merges = [], []
    for seed in PLANS:
        plan = plans.random_plan(seed)
        plan = plan.make(*plan.inputs)
        assert 2 <= len(plan.rectangles) <= 5
        rectangles += plan.rectangles
        merges += plan.merges
    assert {x.sides for x in rectangles} == {ROWS, COLUMNS, BOTH}
    assert {x.normalize for x in rectangles} == {True, False}
    assert {1, 2, 3} <= {len(parts) for parts in merges}
    assert any(x.positives is None for x in rectangles)
    assert any(len(x.rows) != len(x.cols) for x in rectangles)
    intervals = [x for x in rectangles if x.excluded is not None]
    widths = torch.cat([(x.excluded.end - x.excluded.begin) for x in intervals])
    assert (widths <= 0).any()
    sums = [reference.statistics(x._replace(sides=BOTH)).rows for x in intervals]
    assert (torch.cat(sums) == -INF).any()


def shifted_merge(parts):
    shift, total = merge(parts)
    return (shift + 0.1, total) if len(parts) > 1 else (shift, total)


def merge_of_all_but_one(parts):
    return merge(parts[:-1] if len(parts) > 1 else parts)


def merge_that_forgets_a_gradient(parts):
    first, *rest = parts
    return merge([first, *((shift, total.detach()) for shift, total in rest)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    "wrong", [shifted_merge, merge_of_all_but_one, merge_that_forgets_a_gradient]
)
def test_a_planted_merge_is_caught(monkeypatch, wrong, dtype):
    monkeypatch.setattr(plans, "merge", wrong)
    merging = [seed for seed in PLANS if _merges(seed)]
    assert len(merging) > len(PLANS) / 2
    for seed in merging:
        with pytest.raises(AssertionError, match="above its budget"):
            plans.check(seed, dtype, "chunked")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_planted_interval_is_caught(monkeypatch, dtype):
    """Intervals that end one column late."""
    real = plans.contrastive_lse

    def planted(rectangle, call):
        if rectangle.excluded is not None:
            begin, end = rectangle.excluded
            rectangle = rectangle._replace(excluded=Interval(begin, end + 1))
        return real(rectangle, call)

    monkeypatch.setattr(plans, "contrastive_lse", planted)
    caught = 0
    for seed in PLANS:
        try:
            plans.check(seed, dtype, "reference")
        except AssertionError:
            caught += 1
    assert caught > len(PLANS) / 3


def _merges(seed: int) -> bool:
    """Does a plan merge parts that all have negatives?"""
    plan = plans.random_plan(seed)
    plan = plan.make(*plan.inputs)
    found = [reference.statistics(x) for x in plan.rectangles]
    return any(
        len(parts) > 1
        and all((getattr(found[k], side) > -INF).any() for k, side in parts)
        for parts in plan.merges
    )  # fmt: skip


def test_the_reference_is_the_clip_loss():
    images, texts = features(17, 17)
    scale = torch.tensor(14.3, dtype=torch.float64, requires_grad=True)

    def mean_cross_entropy(positives, merged):
        return sum(F.softplus(lse - positives[0]).mean() for lse in merged) / 2

    rectangle = Rectangle(images, texts, scale, Diagonal(0))
    merges = [[Part(0, "rows")], [Part(0, "columns")]]
    value = reference.evaluate(Plan([rectangle], merges, mean_cross_entropy))
    leaves = images, texts, scale
    truth = exact.clip_loss(*leaves)
    torch.testing.assert_close(value, truth, rtol=1e-14, atol=0)
    grads = [torch.autograd.grad(x, leaves) for x in (value, truth)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(value, fastclip.clip_loss(*leaves), rtol=1e-12, atol=0)


def test_the_example_of_the_module_is_the_loss_with_a_queue():
    images, texts, old_texts = features(6, 6, 11)
    scale = torch.tensor(8.0, dtype=torch.float64, requires_grad=True)
    names = {"images": images, "texts": texts, "old_texts": old_texts, "scale": scale}
    names |= {"torch": torch, "F": F}
    for example in doctest.DocTestParser().get_examples(reference.__doc__):
        exec(example.source, names)
    logits = scale * images @ torch.cat([texts, old_texts]).T
    pairs = torch.arange(6)
    loss = (F.cross_entropy(logits, pairs) + F.cross_entropy(logits[:, :6].T, pairs)) / 2
    torch.testing.assert_close(names["truth"], loss, rtol=1e-12, atol=0)
    gradients = torch.autograd.grad(loss, [images, texts, scale])
    torch.testing.assert_close(list(names["gradients"]), list(gradients), rtol=1e-10, atol=1e-13)


def test_sigmoid_sums_are_the_siglip_loss_and_sums_entry_by_entry():
    images, texts = features(9, 9)
    scale, bias = torch.tensor(40.0).double(), torch.tensor(-3.0).double()
    square = Rectangle(images, texts, scale, Diagonal(0))
    found = reference.sigmoid_sums(square, bias)
    loss = fastclip.siglip_loss(images, texts, scale, bias)
    torch.testing.assert_close(found.sum() / 9, loss, rtol=1e-12, atol=0)
    interval = Interval(torch.tensor([2, 0]).int(), torch.tensor([5, 9]).int())
    rectangle = Rectangle(images[:2], texts, scale, Diagonal(3), interval)
    found = reference.sigmoid_sums(rectangle, bias)
    for i in range(2):
        logits = [40.0 * (images[i] @ texts[j]).item() - 3.0 for j in range(9)]
        begin, end = interval.begin[i], interval.end[i]
        terms = [math.log1p(math.exp(-logits[i + 3]))]
        terms += [math.log1p(math.exp(logits[j])) for j in range(9)
                  if j != i + 3 and not begin <= j < end]  # fmt: skip
        assert found[i].item() == pytest.approx(sum(terms), rel=1e-12)


def test_statistics_are_sums_entry_by_entry():
    rows, cols = features(4, 6)
    scale = torch.tensor(3.0, dtype=torch.float64)
    begin = torch.tensor([0, -5, 4, 2], dtype=torch.int32)
    end = torch.tensor([2, 99, 4, 3], dtype=torch.int32)
    rectangle = Rectangle(rows, cols, scale, Diagonal(1), Interval(begin, end))
    found = reference.statistics(rectangle)
    for i in range(4):
        logits = [3.0 * (rows[i] @ cols[j]).item() for j in range(6)]
        seen = [logits[j] for j in range(6) if j != i + 1 and not begin[i] <= j < end[i]]
        assert found.positive[i].item() == pytest.approx(logits[i + 1], abs=1e-14)
        lse = torch.tensor(seen, dtype=torch.float64).logsumexp(0).item() if seen else -INF
        assert found.rows[i].item() == pytest.approx(lse, abs=1e-14)
    assert found.rows[1] == -INF
    assert torch.autograd.grad(found.rows.sum(), rows)[0][1].eq(0).all()
    assert reference.statistics(rectangle._replace(sides=ROWS)).columns is None


def test_merging_the_parts_of_the_columns_gives_the_whole():
    rows, cols = features(7, 20)
    scale = torch.tensor(30.0, dtype=torch.float64)
    whole, *parts = (
        reference.statistics(Rectangle(rows, x, scale, None)).rows
        for x in (cols, *cols.split([1, 12, 7]))
    )
    torch.testing.assert_close(reference.merge(parts), whole, rtol=1e-14, atol=1e-14)
    empty = torch.full_like(whole, -INF)
    assert torch.equal(reference.merge([whole, empty]), whole)
    assert reference.merge([empty, empty]).eq(-INF).all()


@pytest.mark.parametrize(
    "merges, message",
    [
        ([[]], r"at least one part, and parts of one length, got \[\]"),
        ([[Part(0, "rows"), Part(1, "rows")]], r"got \[\(4,\), \(6,\)\]"),
        ([[Part(2, "rows")]], "names a missing rectangle: the plan has 2"),
        ([[Part(-1, "rows")]], "names a missing rectangle"),
        ([[Part(0, "columns")]], "a side that its rectangle leaves out"),
        ([[Part(0, "cols")]], "must be 'rows' or 'columns', got 'cols'"),
    ],
)
def test_plans_that_are_none_are_refused(merges, message):
    a, b = features(4, 6)
    one = torch.ones((), dtype=torch.float64)
    rectangles = [Rectangle(a, b, one, None, sides=ROWS), Rectangle(b, a, one, None)]
    with pytest.raises(ValueError, match=message):
        reference.evaluate(Plan(rectangles, merges, lambda positives, merged: merged[0].sum()))
