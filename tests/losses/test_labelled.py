"""SupCon and UniCL against the mean over a mask of positives."""

import pytest
import torch

import fastclip
from tests.support.dense import (
    ONE_BLOCK,
    PROBLEMS,
    check_exact,
    check_float32,
    check_memory,
    log_softmax,
    unit,
    views,
)

N = 37


def labels_of(num_classes=9, size=N):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(num_classes, (size,), generator=generator) * 10**12 - 10**13
    labels[5] = 7  # its class has no other row
    return labels


def dense_sup_con(features, scale, labels):
    x = unit(features)
    itself = torch.eye(len(x), dtype=torch.bool)
    scores = scale * x @ x.T
    log_p = scores - scores.masked_fill(itself, float("-inf")).logsumexp(1, keepdim=True)
    positives = (labels[:, None] == labels) & ~itself
    num = positives.sum(1)
    losses = -(log_p * positives).sum(1)[num > 0] / num[num > 0]
    return losses.mean()


def dense_uni_cl(images, texts, scale, labels):
    scores = scale * unit(images) @ unit(texts).T
    positives = (labels[:, None] == labels).to(scores.dtype)
    weights = positives / positives.sum(1)
    return -(weights * (log_softmax(scores, 0) + log_softmax(scores, 1))).sum() / (2 * len(images))


def sup_con_by(backend, labels, **options):
    return lambda x, scale: fastclip.sup_con_loss(
        x, labels, logit_scale=scale, backend=backend, **options
    )


def uni_cl_by(backend, labels, **options):
    return lambda x, y, scale: fastclip.uni_cl_loss(
        x, y, labels, logit_scale=scale, backend=backend, **options
    )


@pytest.mark.parametrize("kind, scale", PROBLEMS)
def test_sup_con_is_the_mean_over_positives(backend, kind, scale):
    labels = labels_of()
    for check in (check_exact, check_float32):
        check(sup_con_by(backend, labels), lambda x, s: dense_sup_con(x, s, labels),
              views(1, N, 16, kind), scale)  # fmt: skip


@pytest.mark.parametrize("kind, scale", PROBLEMS)
def test_uni_cl_is_the_mean_over_positives(backend, kind, scale):
    labels = labels_of()
    for check in (check_exact, check_float32):
        check(uni_cl_by(backend, labels), lambda x, y, s: dense_uni_cl(x, y, s, labels),
              views(2, N, 16, kind), scale)  # fmt: skip


def test_no_tensor_has_the_size_of_all_scores():
    labels = labels_of(10, 2048)
    check_memory(sup_con_by("chunked", labels, workspace=ONE_BLOCK), views(1, 2048, 8))
    check_memory(uni_cl_by("chunked", labels, workspace=ONE_BLOCK), views(2, 2048, 8))


@pytest.mark.parametrize("size", [1, 6])
def test_without_positives_the_loss_is_zero_and_never_nan(backend, size):
    features = views(1, size, 5)[0].requires_grad_()
    scale = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    loss = fastclip.sup_con_loss(features, torch.arange(size), logit_scale=scale, backend=backend)
    loss.backward()
    assert loss == 0 and not features.grad.any() and scale.grad == 0


def test_a_row_without_positives_counts_zero_and_is_left_out_of_the_mean():
    features, labels = views(1, 6, 5)[0], torch.tensor([3, 3, 8, 3, 1, 1])
    losses = fastclip.SupConLoss(reduction="none")(features, labels)
    assert losses[2] == 0 and (losses[labels != 8] > 0).all()
    torch.testing.assert_close(fastclip.SupConLoss()(features, labels), losses.sum() / 5)
    others = fastclip.sup_con_loss(features[labels != 8], labels[labels != 8])
    assert fastclip.sup_con_loss(features, labels) > others  # a negative all the same


def test_uni_cl_with_labels_of_their_own_is_clips_loss(backend):
    images, texts = views(2, 9, 5)
    expected = fastclip.clip_loss(images, texts, 12.0, normalize=True)
    found = fastclip.UniCLLoss(backend=backend)(images, texts, torch.arange(9), 12.0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "labels, error, message",
    [
        (torch.arange(3), ValueError, r"labels must have shape \(4,\).* got \(3,\)"),
        (torch.zeros(4, 1, dtype=torch.int64), ValueError, r"labels must have shape .* \(4, 1\)"),
        (torch.arange(4, dtype=torch.int32), ValueError, "labels must be int64, got torch.int32"),
        (torch.zeros(4), ValueError, "labels must be int64, got torch.float32"),
        ([0, 1, 2, 3], TypeError, "labels must be a torch.Tensor, got list"),
    ],
)
def test_bad_labels_are_named(labels, error, message):
    x = torch.ones(4, 3)
    for call in (
        lambda: fastclip.SupConLoss()(x, labels),
        lambda: fastclip.UniCLLoss()(x, x, labels),
    ):
        with pytest.raises(error, match=message):
            call()
