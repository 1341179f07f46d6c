"""The loss at every smaller batch size, against separate calls of the loss."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fastclip
from fastclip import clip_batch_curve, clip_loss
from tests.support.backends import AVAILABLE
from tests.support.inputs import planted_features, square
from tests.support.pairwise import cover_pairs

D = 8


def features(N: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return list(planted_features(square(N, D), "random", dtype))


def separate(images, texts, scale, size: int, **options) -> torch.Tensor:
    """The mean of the losses of all whole batches of a size, each a call of its own."""
    starts = range(0, len(images) - size + 1, size)
    losses = [
        clip_loss(images[i : i + size], texts[i : i + size], scale, **options) for i in starts
    ]
    return torch.stack(losses).mean()


class Logits(TorchDispatchMode):
    """Counts the logits of all calls of the primitive, and the largest rectangle of them."""

    num = calls = largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.fastclip.contrastive_lse.default:
            size = len(args[0]) * len(args[1])
            self.num, self.calls = self.num + size, self.calls + 1
            self.largest = max(self.largest, size)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "backend, N, scale", cover_pairs(AVAILABLE, [1, 2, 3, 12, 64, 93, 200], [1.0, 100.0])
)
def test_each_size_is_the_mean_of_separate_calls(backend, N, scale):
    images, texts = features(N)
    curve = clip_batch_curve(images, texts, scale, backend=backend)
    powers = [2**k for k in range(1, 9) if 2**k < N and 2**k >= curve.batch_sizes[0]]
    assert curve.batch_sizes == (*powers, N)
    for size, loss, used in zip(*curve, strict=True):
        truth = separate(images, texts, scale, size, backend="reference")
        torch.testing.assert_close(loss, truth, rtol=1e-12, atol=1e-300)
        assert used == N // size * size
    assert curve.pairs_left_out == tuple(N - used for used in curve.pairs_used)


def test_both_directions_count():
    """Texts that are alike are hard for the images alone."""
    images, texts = features(40)
    texts[1::2] = texts[::2]
    curve = clip_batch_curve(images, texts, 30.0, smallest=4)
    swapped = clip_batch_curve(texts, images, 30.0, smallest=4)
    torch.testing.assert_close(curve.losses, swapped.losses, rtol=1e-12, atol=0)
    truth = [separate(images, texts, 30.0, size) for size in curve.batch_sizes]
    torch.testing.assert_close(curve.losses, torch.stack(truth), rtol=1e-12, atol=0)


@pytest.mark.parametrize("smallest", [None, 2, 4, 32, 64, 128])
@pytest.mark.parametrize("N", [64, 75])
def test_every_logit_is_computed_once(N, smallest):
    images, texts = features(N)
    with Logits() as logits:
        curve = clip_batch_curve(images, texts, 10.0, smallest=smallest, backend="chunked")
    assert logits.num == N * N
    assert curve.batch_sizes[0] == min(smallest or 2, N)
    truth = clip_batch_curve(images, texts, 10.0, smallest=2).losses[-len(curve.losses) :]
    torch.testing.assert_close(curve.losses, truth, rtol=1e-12, atol=0)
    if smallest is None:
        assert logits.largest <= N * N // 4 + N


def test_a_large_batch_begins_at_a_64th_of_it():
    images, texts = features(1000, torch.float32)
    with Logits() as logits:
        curve = clip_batch_curve(images, texts, 10.0)
    assert curve.batch_sizes == (16, 32, 64, 128, 256, 512, 1000)
    assert curve.pairs_left_out == (8, 8, 40, 104, 232, 488, 0)
    assert logits.calls <= 3 * 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_and_normalisation(backend, dtype):
    images, texts = features(50, dtype)
    images, texts = 3 * images, texts / 2
    curve = clip_batch_curve(images, texts, 14.0, normalize=True, backend=backend)
    assert curve.losses.dtype == torch.float32
    for size, loss in zip(curve.batch_sizes, curve.losses, strict=True):
        exact = separate(images.double(), texts.double(), 14.0, size, normalize=True)
        assert loss.item() == pytest.approx(exact.item(), rel=2e-5 if dtype.itemsize == 4 else 5e-3)


def test_the_curve_has_no_gradient_and_changes_nothing():
    images, texts = (x.requires_grad_() for x in features(9))
    scale = torch.tensor(5.0, requires_grad=True)
    copies = images.detach().clone(), texts.detach().clone()
    curve = clip_batch_curve(images, texts, scale)
    assert not curve.losses.requires_grad
    assert torch.equal(images, copies[0]) and torch.equal(texts, copies[1])
    assert torch.is_grad_enabled()


def test_not_a_number_is_not_hidden():
    images, texts = features(16)
    images[5] = float("nan")
    assert clip_batch_curve(images, texts, 5.0).losses.isnan().all()


@pytest.mark.parametrize("smallest", [0, 1, 3, -4])
def test_a_smallest_batch_that_is_no_power_of_two_is_refused(smallest):
    with pytest.raises(ValueError, match="smallest must be a power of two, at least 2, got"):
        clip_batch_curve(*features(8), 1.0, smallest=smallest)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"smallest": 2.0}, TypeError, "smallest must be an int or None, got float"),
        ({"logit_scale": -1.0}, ValueError, "logit_scale must be > 0"),
        ({"text_features": torch.ones(7, D, dtype=torch.float64)}, ValueError, "the same B"),
        ({"backend": "eager"}, ValueError, "eager"),
        ({"workspace": -1}, ValueError, "workspace must be >= 0"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    images, texts = features(8)
    arguments = {"image_features": images, "text_features": texts, "logit_scale": 1.0}
    with pytest.raises(error, match=message):
        clip_batch_curve(**(arguments | change))


def test_it_is_part_of_the_package():
    assert fastclip.clip_batch_curve is clip_batch_curve
