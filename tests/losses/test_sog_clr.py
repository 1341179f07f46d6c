"""SogCLR against averages that are no logarithms, in float64."""

import pytest
import torch

import fastclip
from tests.support.dense import (
    ONE_BLOCK,
    PROBLEMS,
    check_exact,
    check_float32,
    check_memory,
    unit,
    views,
)

N, D, SAMPLES = 37, 16, 100
GAMMA, RHO = 0.6, 8.0


def indices_of(size=N):
    return torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(size))[:size]


def dense(images, texts, scale, u):
    """The loss, and the averages of the batch, from those of the last, 0 if there are none."""
    cosines = unit(images) @ unit(texts).T
    others = 1 - torch.eye(len(images), dtype=cosines.dtype)
    of_sides = []
    for x in (cosines, cosines.T):
        g = (others * (scale * (x - x.diagonal()[:, None])).exp()).sum(1) / (len(x) - 1)
        of_sides.append(g)
    g = torch.stack(of_sides)
    new = torch.where(u == 0, g, (1 - GAMMA) * u + GAMMA * g).detach()
    value = (new.log() + (g - g.detach()) / new).mean()
    return (RHO + value) / scale, new


def trained(backend, dtype, features, scale, **options):
    """A loss that has met some of the samples, and their averages in the batch's order."""
    loss = fastclip.SogCLRLoss(SAMPLES, gamma=GAMMA, rho=RHO, backend=backend, **options).to(dtype)
    known = indices_of()[:20]
    images, texts = (x[-20:].to(dtype) for x in features)
    loss(images, texts, known, scale)
    return loss.eval(), loss.log_u[:, indices_of()].double().exp()


@pytest.mark.parametrize("kind, scale", PROBLEMS)
def test_it_is_the_loss_of_the_averages(backend, kind, scale):
    features = views(2, N, D, kind)
    check(check_exact, torch.float64, backend, features, scale, dense_of_averages)
    check(check_float32, torch.float32, backend, features, scale, dense_in_logs)


def check(compare, dtype, backend, features, scale, dense):
    loss, u = trained(backend, dtype, features, scale)
    compare(
        lambda x, y, s: loss(x, y, indices_of(), s),
        lambda x, y, s: dense(x, y, s, u),
        features,
        scale,
    )


def dense_of_averages(images, texts, scale, u):
    return dense(images, texts, scale, u)[0]


def dense_in_logs(images, texts, scale, u):
    """In float32 sums of exponentials overflow; this is the same with logarithms."""
    cosines = unit(images) @ unit(texts).T
    itself = torch.eye(N, dtype=torch.bool)
    log_g = torch.stack([
        (scale * (x - x.diagonal()[:, None])).masked_fill(itself, float("-inf")).logsumexp(1)
        for x in (cosines, cosines.T)
    ]) - torch.tensor(N - 1.0, dtype=cosines.dtype).log()  # fmt: skip
    last, now = u.log().to(log_g.dtype), log_g.detach()
    gamma = torch.tensor(GAMMA, dtype=log_g.dtype)
    mixed = torch.logaddexp((1 - gamma).log() + last, gamma.log() + now)
    log_u = torch.where(last == float("-inf"), now, mixed)
    ratio = (log_g - log_u).exp()
    return (RHO + (log_u + ratio - ratio.detach()).mean()) / scale


def test_no_tensor_has_the_size_of_all_scores():
    loss = fastclip.SogCLRLoss(2048, backend="chunked", workspace=ONE_BLOCK)
    check_memory(lambda x, y, s: loss(x, y, torch.arange(2048), s), views(2, 2048, 8))


def test_averages_are_those_of_the_samples_met():
    loss = fastclip.SogCLRLoss(SAMPLES, gamma=GAMMA, rho=RHO).double()
    u = torch.zeros(2, SAMPLES, dtype=torch.float64)
    for size in (5, 30, 37):
        images, texts, indices = *views(2, size, D), indices_of(size)
        expected, u[:, indices] = dense(images, texts, 10.0, u[:, indices])
        torch.testing.assert_close(loss(images, texts, indices, 10.0), expected)
    torch.testing.assert_close(loss.log_u.exp(), u)
    before = loss.log_u.clone()
    loss.eval()(images, texts, indices, 10.0)
    assert torch.equal(loss.log_u, before)


def test_a_sample_that_is_repeated_counts_as_often_and_has_one_average():
    images, texts = (x.requires_grad_() for x in views(2, 5, D))
    indices = torch.tensor([3, 0, 3, 7, 3])
    loss = fastclip.SogCLRLoss(SAMPLES, gamma=GAMMA, rho=RHO).double()
    for same, scale in ((indices == 3, 10.0), (indices == 3, 12.0)):  # new at first, then known
        u = loss.log_u[:, indices].exp()
        cosines = unit(images) @ unit(texts).T
        others = 1 - torch.eye(5, dtype=cosines.dtype)
        g = torch.stack([
            (others * (scale * (x - x.diagonal()[:, None])).exp()).sum(1) / 4
            for x in (cosines, cosines.T)
        ])  # fmt: skip
        means = torch.where(same, g[:, same].mean(1, keepdim=True), g).detach()
        new = torch.where(u == 0, means, (1 - GAMMA) * u + GAMMA * means)
        expected = (RHO + (new.log() + (g - g.detach()) / new).mean()) / scale
        found = loss(images, texts, indices, scale)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(loss.log_u[:, indices].exp(), new)
        for x in (images, texts):
            gradients = (torch.autograd.grad(y, x, retain_graph=True)[0] for y in (found, expected))
            torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_a_share_of_one_is_the_loss_of_the_batch_alone():
    images, texts = views(2, N, D)
    images.requires_grad_()
    loss = fastclip.SogCLRLoss(SAMPLES, 0.1, gamma=1.0).double()
    for _ in range(2):
        found = loss(images, texts, indices_of())
    expected = fastclip.info_loob_loss(images, texts, 0.1) / 10 - torch.tensor(N - 1.0).log() / 10
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(x, images)[0] for x in (found, expected)), rtol=1e-10, atol=1e-12
    )


def test_a_loss_that_was_loaded_goes_on_to_the_bit(tmp_path):
    batches = [(*(x.float() for x in views(2, size, D)), indices_of(size)) for size in (9, 20, 37)]
    loss = fastclip.SogCLRLoss(SAMPLES)
    loss(*batches[0])
    torch.save(loss.state_dict(), tmp_path / "state.pt")
    resumed = fastclip.SogCLRLoss(SAMPLES)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for batch in batches[1:]:
        assert torch.equal(loss(*batch), resumed(*batch))
    assert torch.equal(loss.log_u, resumed.log_u)


@pytest.mark.parametrize(
    "indices, error, message",
    [
        (torch.arange(3), ValueError, r"indices must have shape \(4,\)"),
        (torch.arange(4.0), ValueError, "indices must be int64, got torch.float32"),
        (torch.tensor([0, 1, 2, 100]), ValueError, "below num_samples 100, got 0 to 100"),
        (torch.tensor([0, -1, 2, 3]), ValueError, "got -1 to 3"),
        ([0, 1, 2, 3], TypeError, "indices must be a torch.Tensor, got list"),
    ],
)
def test_bad_indices_are_named_and_nothing_is_kept(indices, error, message):
    loss, x = fastclip.SogCLRLoss(SAMPLES), torch.eye(4)
    with pytest.raises(error, match=message):
        loss(x, x, indices)
    assert (loss.log_u == float("-inf")).all()


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="num_samples must be >= 2, got 1"):
        fastclip.SogCLRLoss(1)
    with pytest.raises(ValueError, match="gamma must be above 0 and at most 1, got 0"):
        fastclip.SogCLRLoss(SAMPLES, gamma=0)
    with pytest.raises(ValueError, match="reduction must be 'mean', got 'none'"):
        fastclip.SogCLRLoss(SAMPLES, reduction="none")
    loss, x = fastclip.SogCLRLoss(SAMPLES), torch.ones(1, 4)
    with pytest.raises(ValueError, match="one pair alone has no negatives"):
        loss(x, x, torch.tensor([3]))
    loss.gamma = 1.5
    with pytest.raises(ValueError, match="gamma must be above 0 and at most 1, got"):
        loss(x, x, torch.tensor([3]))
