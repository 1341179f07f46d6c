"""What the fields of a `Rectangle` mean, against dense float64 formulas."""

import pytest
import torch

from fastclip.ops import calls, dispatch
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.ops.siglip_total import siglip_total
from fastclip.rectangle import BOTH, COLUMNS, ROWS, Diagonal, Interval, Rectangle, Sides
from tests.support.backends import AVAILABLE
from tests.support.pairwise import cover_pairs

M, N, D = 23, 31, 6


def leaves(seed: int = 0) -> list[torch.Tensor]:
    """(M, D) rows, (N, D) columns, scale and bias."""
    generator = torch.Generator().manual_seed(seed)
    features = [torch.randn(size, D, generator=generator, dtype=torch.float64) for size in (M, N)]
    scalars = [torch.tensor(x, dtype=torch.float64) for x in (1.3, -0.7)]
    return [x.requires_grad_() for x in (*features, *scalars)]


def intervals() -> Interval:
    """With the pair inside and outside, empty, beyond the edges, and of all columns."""
    first = torch.arange(M, dtype=torch.int32)
    begin, end = first - 2, first + 3
    begin[3], end[3] = 9, 9
    begin[4], end[4] = 20, 11
    begin[5], end[5] = -100, 100
    begin[6], end[6] = 25, 2**31 - 1
    return Interval(begin, end)


def masks(positives: Diagonal | None, excluded: Interval | None) -> tuple[torch.Tensor, ...]:
    """(M, N) of pairs and of negatives, entry by entry."""
    pairs, negatives = (torch.zeros(M, N, dtype=torch.bool) for _ in range(2))
    for i in range(M):
        for j in range(N):
            is_pair = positives is not None and j == i + positives.offset
            left_out = excluded is not None and int(excluded.begin[i]) <= j < int(excluded.end[i])
            pairs[i, j], negatives[i, j] = is_pair, not is_pair and not left_out
    return pairs, negatives


def dense(logits, pairs, negatives):
    """positive (M,); log-sum-exp of the negatives of rows and of columns, -inf without any."""
    positive = torch.where(pairs, logits, 0.0).sum(1)
    lse = []
    for dim in (1, 0):
        there = negatives.any(dim)
        kept = logits.masked_fill(~negatives, float("-inf"))
        # A row without negatives has no gradient; torch's would be nan.
        value = kept.masked_fill(~there.unsqueeze(dim), 0.0).logsumexp(dim)
        lse.append(torch.where(there, value, float("-inf")))
    return positive, lse


EXCLUDED = {"nothing left out": None, "intervals": intervals()}
SIDES = {"rows": ROWS, "columns": COLUMNS, "both": BOTH, "neither": Sides(False, False)}
POSITIVES = [Diagonal(0), Diagonal(5), Diagonal(-4), None]
close = {"rtol": 1e-10, "atol": 1e-12}


def skip_unless_taken(backend: str, excluded: Interval | None) -> None:
    if dispatch.objection(backend, "cpu", torch.float64, excluded is not None) is not None:
        pytest.skip(f"{backend} does not take it")


@pytest.mark.parametrize(
    "backend, positives, excluded, sides",
    cover_pairs(AVAILABLE, POSITIVES, list(EXCLUDED), list(SIDES)),
    ids=str,
)
def test_statistics_and_gradients_of_the_wanted_sides(backend, positives, excluded, sides):
    excluded, sides = EXCLUDED[excluded], SIDES[sides]
    skip_unless_taken(backend, excluded)
    rows, cols, scale, _ = inputs = leaves()
    rectangle = Rectangle(rows, cols, scale, positives, excluded, sides=sides)
    call = dispatch.plan("contrastive_lse", backend, rectangle, None)
    positive, shift, total, _ = contrastive_lse(rectangle, call)
    true_positive, of_sides = dense(scale * rows @ cols.T, *masks(positives, excluded))
    true_lse = torch.cat([rows.new_empty(0), *(of_sides[i] for i in (0, 1) if sides[i])])
    torch.testing.assert_close(positive, true_positive, **close)
    torch.testing.assert_close(shift + total.log(), true_lse, **close)
    assert (total[shift == float("-inf")] == 1).all()

    def loss(positive, lse):
        there = true_lse.isfinite()
        weights = torch.linspace(-1.0, 1.5, len(lse), dtype=torch.float64)
        return (weights * lse)[there].sum() + (positive * positive.detach().cos()).sum()

    # With a constant shift, the gradient of the log of the total is that of the log-sum-exp.
    grads = torch.autograd.grad(loss(positive, total.log()), inputs[:3], allow_unused=True)
    true_grads = torch.autograd.grad(loss(true_positive, true_lse), inputs[:3])
    torch.testing.assert_close(grads, true_grads, **close)


@pytest.mark.parametrize(
    "backend, positives, excluded", cover_pairs(AVAILABLE, POSITIVES, list(EXCLUDED)), ids=str
)
def test_sigmoid_losses_and_gradients(backend, positives, excluded):
    excluded = EXCLUDED[excluded]
    skip_unless_taken(backend, excluded)
    rows, cols, scale, bias = inputs = leaves()
    rectangle = Rectangle(rows, cols, scale, positives, excluded)
    row_loss, _ = siglip_sum(rectangle, bias, Call(backend))
    pairs, negatives = masks(positives, excluded)
    logits = scale * rows @ cols.T + bias
    softplus = torch.nn.functional.softplus
    losses = torch.where(pairs, softplus(-logits), softplus(logits))
    true_row_loss = torch.where(pairs | negatives, losses, 0.0).sum(1)
    torch.testing.assert_close(row_loss, true_row_loss, **close)
    weights = torch.linspace(-1.0, 1.5, M, dtype=torch.float64)
    true_grads = torch.autograd.grad((weights * true_row_loss).sum(), inputs, retain_graph=True)
    grads = torch.autograd.grad((weights * row_loss).sum(), inputs)
    torch.testing.assert_close(grads, true_grads, **close)
    if dispatch.has_one_pass_siglip(backend):
        total = siglip_total(rectangle, bias, Call(backend, one_pass=True))
        torch.testing.assert_close(total, true_row_loss.sum(), **close)
        grads = torch.autograd.grad(total, inputs)
        true_grads = torch.autograd.grad(true_row_loss.sum(), inputs)
        torch.testing.assert_close(grads, true_grads, **close)


def test_no_pairs_are_the_same_bits_as_pairs_beyond_the_columns(backend):
    rows, cols, scale, _ = leaves()
    results = []
    for positives in (None, Diagonal(N)):
        rectangle = Rectangle(rows, cols, scale, positives)
        _, shift, total, _ = contrastive_lse(rectangle, Call(backend))
        results.append((shift, total, *torch.autograd.grad(total.log().sum(), (rows, cols))))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("backend, other", [("cpu", "chunked"), ("chunked", "cpu")])
def test_backends_without_intervals_say_so(monkeypatch, backend, other):
    monkeypatch.delattr(dispatch.load_backend(backend), "TAKES_INTERVALS")
    calls._check_that_it_runs.cache_clear()
    rows, cols, scale, bias = leaves()
    rectangle = Rectangle(rows, cols, scale, Diagonal(0), intervals())
    message = f"backend '{backend}' cannot run: it cannot leave out columns .*'chunked' can"
    for run in (
        lambda: dispatch.plan("contrastive_lse", backend, rectangle, None),
        lambda: contrastive_lse(rectangle, Call(backend)),
        lambda: siglip_sum(rectangle, bias, Call(backend)),
    ):
        with pytest.raises(RuntimeError, match=message):
            run()
    if dispatch.objection(other, "cpu", torch.float64) is None:
        assert dispatch.plan("contrastive_lse", "auto", rectangle, None).backend == other


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            lambda x: x[:-1],
            r"excluded_begin must be contiguous int32 \[23\] on cpu, got int32 \[22\]",
        ),
        (lambda x: x.long(), r"excluded_begin must be contiguous int32 \[23\] on cpu, got int64"),
        (lambda x: x.to("meta"), r"excluded_begin must be .* on cpu, got int32 \[23\] on meta"),
        (lambda x: torch.stack([x, x], 1)[:, 0], "excluded_begin must be .*, not contiguous"),
        (lambda x: None, "excluded_begin and excluded_end must be given together"),
    ],
)
def test_intervals_that_are_none_are_refused(backend, wrong, message):
    rows, cols, scale, _ = leaves()
    begin, end = intervals()
    rectangle = Rectangle(rows, cols, scale, Diagonal(0), Interval(wrong(begin), end))
    with pytest.raises(ValueError, match=f"contrastive_lse: {message}"):
        contrastive_lse(rectangle, Call(backend))
