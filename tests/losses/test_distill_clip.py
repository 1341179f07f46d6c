"""Distillation against the formula with all logits at once, and against open_clip's class."""

import math

import pytest
import torch

import fastclip
from tests.support.dense import (
    ONE_BLOCK,
    PROBLEMS,
    check_exact,
    check_float32,
    check_memory,
    cross_entropy,
    log_softmax,
    unit,
)
from tests.support.dense import views as scaled_views
from tests.support.peers import open_clip

N, D = 37, 16
WEIGHTS = 1.0, 2.0  # of the two losses in their sum, so that each has a gradient of its own


def views(num, size=N, dim=D, kind="random"):
    return [unit(x) for x in scaled_views(num, size, dim, kind)]


def teacher(dim, scale, kind="random", shift=0, dtype=torch.float64):
    """A teacher of another D: its images, its texts and its scale."""
    images, texts = (x.roll(shift, 1).to(dtype) for x in views(2, N, dim, kind))
    return images, texts.roll(shift, 0), scale


def dense(images, texts, scale, *teachers):
    """Both losses as open_clip writes them, with the mean over teachers after their softmax."""
    logits = scale * images @ texts.T
    labels = torch.arange(len(images))
    contrastive = (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2
    distill = 0.0
    for x, y, s in teachers:
        of_teacher = s * x.to(logits.dtype) @ y.to(logits.dtype).T
        for target, student in ((of_teacher, logits), (of_teacher.T, logits.T)):
            distill -= (target.softmax(1) * log_softmax(student)).sum(1).mean() / 2 / len(teachers)
    return contrastive, distill


def weighted(losses):
    return sum(weight * loss for weight, loss in zip(WEIGHTS, losses, strict=True))


def columns(teachers):
    """As the function takes several."""
    return [list(x) for x in zip(*teachers, strict=True)]


@pytest.mark.parametrize("kind, scale", PROBLEMS)
def test_it_is_the_cross_entropy_with_the_teachers_softmax(backend, kind, scale):
    features, one = views(2, kind=kind), teacher(24, scale, kind, dtype=torch.float32)
    wide = teacher(24, scale, kind)
    check_exact(
        lambda *x: weighted(fastclip.distill_clip_loss(*x, *wide, backend=backend)),
        lambda *x: weighted(dense(*x, wide)),
        features,
        scale,
    )
    check_float32(
        lambda *x: weighted(fastclip.distill_clip_loss(*x, *one, backend=backend)),
        lambda *x: weighted(dense(*x, one)),
        features,
        scale,
    )


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)], ids=["contrastive", "distill"])
def test_teachers_are_averaged_after_their_softmax(weights):
    teachers = [teacher(24, 60.0), teacher(7, 3.0, shift=1), teacher(D, 100.0, "trained", 2)]
    lists = columns(teachers)
    lists[2][1] = torch.tensor([3.0])
    found = lambda *x: fastclip.distill_clip_loss(*x, *lists, workspace=0)  # noqa: E731
    for loss, of_all in ((found, teachers), (found, teachers[::-1])):
        check_exact(
            lambda *x, loss=loss: sum(w * y for w, y in zip(weights, loss(*x), strict=True)),
            lambda *x, of_all=of_all: sum(
                w * y for w, y in zip(weights, dense(*x, *of_all), strict=True)
            ),
            views(2),
            14.3,
        )
    alone = fastclip.distill_clip_loss(*views(2), 14.3, *teachers[0])
    assert alone[1] != found(*views(2), 14.3)[1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_it_is_open_clips(dtype):
    images, texts, *of_teacher = (x.to(dtype) for x in (*views(2), *teacher(24, 50.0)[:2]))
    results = []
    for loss in (fastclip.DistillClipLoss(), open_clip.loss.DistillClipLoss()):
        leaves = [x.clone().requires_grad_() for x in (images, texts)]
        leaves.append(torch.tensor(30.0, dtype=dtype, requires_grad=True))
        losses = loss(*leaves, *of_teacher, torch.tensor(50.0, dtype=dtype), output_dict=True)
        assert list(losses) == ["contrastive_loss", "distill_loss"]
        gradients = torch.autograd.grad(weighted(losses.values()), leaves)
        results.append([*losses.values(), *gradients])
        pair = loss(*leaves, *of_teacher, 50.0)
        assert isinstance(pair, tuple) and torch.equal(pair[1], losses["distill_loss"])
    bound = 1e-10 if dtype == torch.float64 else 2e-5
    for found, expected in zip(*results, strict=True):
        assert (found - expected).norm() <= bound * expected.norm()


def test_the_contrastive_loss_is_clip_losss_to_the_bit():
    images, texts = views(2)
    found = fastclip.distill_clip_loss(images, texts, 20.0, *teacher(24, 50.0))[0]
    assert torch.equal(found, fastclip.clip_loss(images, texts, 20.0))


def test_a_student_and_a_teacher_that_both_fit_keep_their_relative_accuracy():
    images, texts = torch.eye(8), torch.eye(8)
    contrastive, found = fastclip.distill_clip_loss(images, texts, 40.0, 2 * images, texts, 20.0)
    # Seven others, whose logits are 0; of the pair 40, the student's as the teacher's.
    own, others = math.log1p(7 * math.exp(-40)), 40 * 7 / (math.exp(40) + 7)
    assert contrastive.item() == pytest.approx(own, rel=1e-5)
    assert found.item() == pytest.approx(own + others, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_16_bit_features_have_losses_in_float32(dtype, autocast):
    images, texts = (x.to(dtype).requires_grad_() for x in views(2))
    one = teacher(24, 50.0, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses = fastclip.distill_clip_loss(images, texts, 100.0, *one)
    wide = [x.detach().double().requires_grad_() for x in (images, texts)]
    expected = dense(*wide, 100.0, one)
    for i, (loss, other) in enumerate(zip(losses, expected, strict=True)):
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss.double(), other, rtol=1e-5, atol=1e-5)
        found = torch.autograd.grad(loss, (images, texts), retain_graph=i == 0)
        wanted = torch.autograd.grad(other, wide, retain_graph=i == 0)
        for x, y in zip(found, wanted, strict=True):
            assert x.dtype == dtype
            bound = torch.finfo(dtype).eps
            torch.testing.assert_close(x.double(), y, rtol=bound, atol=bound * y.abs().max())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_teachers_have_dtypes_of_their_own(dtype):
    teachers = [teacher(24, 50.0, dtype=dtype), teacher(7, 9.0, dtype=torch.float32)]
    for student in (torch.float32, torch.bfloat16):
        features = [x.to(student) for x in views(2)]
        found = fastclip.distill_clip_loss(*features, 20.0, *columns(teachers))[1]
        expected = dense(*(x.double() for x in features), 20.0, *teachers)[1]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0.0)


def test_no_tensor_has_the_size_of_all_logits():
    size = 2048
    lists = columns(
        (*(x.float() for x in views(2, size, dim)), scale) for dim, scale in ((8, 50.0), (4, 9.0))
    )
    check_memory(
        lambda *x: fastclip.distill_clip_loss(
            *x, *lists, backend="chunked", workspace=ONE_BLOCK
        )[1],
        views(2, size, 8),
    )  # fmt: skip


def test_frozen_towers_and_no_gradient_at_all():
    images, texts = views(2)
    one = teacher(24, 50.0)
    expected = dense(images, texts, 9.0, one)[1]
    with torch.no_grad():
        leaf = images.clone().requires_grad_()
        assert torch.allclose(fastclip.distill_clip_loss(leaf, texts, 9.0, *one)[1], expected)
    for frozen in (0, 1):
        leaves = [x.clone() for x in (images, texts)]
        wanted = leaves[1 - frozen].requires_grad_()
        found, other = (
            torch.autograd.grad(loss(*leaves, 9.0)[1], wanted)[0]
            for loss in (
                lambda *x: fastclip.distill_clip_loss(*x, *one),
                lambda *x: dense(*x, one),
            )
        )
        torch.testing.assert_close(found, other, rtol=1e-10, atol=1e-13)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's
def test_transforms_and_second_derivatives():
    images, texts = views(2)
    one = teacher(24, 50.0)

    def distill(x):
        return fastclip.distill_clip_loss(x, texts, 9.0, *one)[1]

    leaf = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(distill(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(distill)(images), expected)
    with pytest.raises(RuntimeError, match="has no forward-mode derivative"):
        torch.func.jvp(distill, (images,), (images,))
    contrastive, both = fastclip.distill_clip_loss(leaf, texts, 9.0, *one)
    for loss in (both, both - contrastive):
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
        with pytest.raises(RuntimeError, match="differentia"):
            torch.autograd.grad(gradient.square().sum(), leaf)


X, Y, T = torch.eye(4), torch.eye(4)[:, :2], torch.eye(5)[:4]


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"text_features": X[:3]}, ValueError, "must have the same B"),
        ({"logit_scale": 0.0}, ValueError, "logit_scale must be > 0, got 0.0"),
        ({"dist_logit_scale": -1.0}, ValueError, "dist_logit_scale must be > 0, got -1.0"),
        ({"dist_logit_scale": None}, TypeError, "dist_logit_scale must be a float or a torch.T"),
        ({"dist_logit_scale": torch.ones(2)}, ValueError, "dist_logit_scale must have one element"),
        ({"dist_image_features": None}, TypeError, "dist_image_features must be a torch.Tensor"),
        ({"dist_text_features": T}, ValueError,
         "dist_image_features and dist_text_features must have the same D"),
        ({"dist_text_features": Y.double()}, ValueError,
         "dist_image_features and dist_text_features must have the same dtype"),
        ({"dist_image_features": X[:3], "dist_text_features": X[:3]}, ValueError,
         "dist_image_features must have as many rows as image_features, 4, got 3"),
        ({"dist_image_features": [Y]}, TypeError,
         r"sequences for \['dist_image_features'\] only"),
        ({"dist_image_features": [], "dist_text_features": [], "dist_logit_scale": []},
         ValueError, "one entry per teacher and at least one, got 0, 0 and 0"),
        ({"dist_image_features": [Y, T], "dist_text_features": [Y, T], "dist_logit_scale": [9.0]},
         ValueError, "got 2, 2 and 1"),
        ({"dist_image_features": [Y, T], "dist_text_features": [Y, Y],
          "dist_logit_scale": [9.0, 9.0]},
         ValueError, r"dist_image_features\[1\] and dist_text_features\[1\] must have the same D"),
        ({"dist_text_features": Y.clone().requires_grad_()}, ValueError,
         "dist_text_features must not require a gradient, because teachers are constants"),
        ({"dist_logit_scale": torch.tensor(9.0, requires_grad=True)}, ValueError,
         "dist_logit_scale must not require a gradient"),
        ({"workspace": -1}, ValueError, "workspace must be >= 0 bytes"),
        ({"backend": "cudnn"}, ValueError, "cudnn"),
    ],
)  # fmt: skip
def test_bad_input_is_named(change, error, message):
    given = {
        "image_features": X, "text_features": X, "logit_scale": 9.0,
        "dist_image_features": Y, "dist_text_features": Y, "dist_logit_scale": 9.0,
    }  # fmt: skip
    assert all(torch.isfinite(x) for x in fastclip.distill_clip_loss(**given))
    with pytest.raises(error, match=message):
        fastclip.distill_clip_loss(**given | change)


def test_what_open_clips_class_has_not_is_refused():
    with pytest.raises(TypeError, match="label_smoothing"):
        fastclip.DistillClipLoss(label_smoothing=0.1)
    with pytest.raises(NotImplementedError, match="use_horovod=True is not supported"):
        fastclip.DistillClipLoss(use_horovod=True)
