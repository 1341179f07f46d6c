"""Sums of exponentials under different shifts, merged: on one process."""

import torch

from fastclip.distributed.merge import merge

INF = float("inf")


def test_merge_is_the_log_sum_exp_of_all_parts():
    logits = 100.0 * torch.randn(5, 40, 7, generator=torch.Generator().manual_seed(0)).double()
    logits[2] = -INF
    shifts = logits.amax(1)
    totals = torch.exp(logits - shifts.masked_fill(shifts == -INF, 0.0)[:, None]).sum(1)
    totals[2] = 1.0
    shift, total = merge(shifts, totals)
    assert torch.equal(shift, logits.amax((0, 1)))
    torch.testing.assert_close(shift + total.log(), logits.flatten(0, 1).logsumexp(0))


def test_merge_of_empty_sums_is_empty_and_without_gradient():
    totals = torch.ones(3, 2).requires_grad_()
    shift, total = merge(torch.full((3, 2), -INF), totals)
    assert (shift == -INF).all() and (total == 1).all()
    total.sum().backward()
    assert (totals.grad == 0).all()


def test_nan_is_not_hidden_by_the_maximum():
    for shifts, totals in [([INF, 1.0], [1.0, 1.0]), ([0.0, float("nan")], [1.0, 1.0]),
                           ([0.0, 1.0], [float("nan"), 1.0])]:  # fmt: skip
        shift, total = merge(torch.tensor(shifts)[:, None], torch.tensor(totals)[:, None])
        assert not (shift + total.log()).isfinite().any()
