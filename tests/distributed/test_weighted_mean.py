"""A mean over what ranks have in different numbers, against the one of all of it."""

import torch

from fastclip.distributed.weighted_mean import weighted_mean


def mean_of_rank(group, num_tokens):
    rank = 0 if group is None else group.rank()
    counts = torch.arange(2.0, 2.0 + num_tokens[rank], dtype=torch.float64).requires_grad_()
    mean = weighted_mean(counts.square().sum(), torch.tensor(num_tokens[rank]), group)
    mean.backward()
    return mean.detach(), counts.detach(), counts.grad


def test_the_mean_and_the_average_gradient_are_those_of_all_tokens(ranks):
    num_tokens = [5, 0, 2]
    results = ranks.run(3, mean_of_rank, num_tokens)
    values = torch.cat([values for _, values, _ in results])
    expected = values.square().sum() / 7
    for mean, values, gradient in results:
        torch.testing.assert_close(mean, expected)
        assert torch.equal(mean, results[0][0])
        torch.testing.assert_close(gradient / 3, 2 * values / 7)  # a step averages over ranks


def test_nothing_at_all_has_a_mean_of_zero():
    assert weighted_mean(torch.tensor(0.0), torch.tensor(0), None) == 0
