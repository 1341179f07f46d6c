"""CLIP's loss over prefixes of the features, against dense logits and a loop of open_clip's."""

import pickle

import pytest
import torch

import fastclip
from fastclip.train.step.cached import cached_step
from tests.support.dense import (
    ONE_BLOCK,
    PROBLEMS,
    check_exact,
    check_float32,
    check_memory,
    cross_entropy,
    unit,
    value_and_gradients,
    views,
)
from tests.support.dense_clip import clip_loss as dense_clip_loss

N, D = 37, 24
DIMS = (7, D, 16)  # not sorted
WEIGHTS = (0.5, 1.0, 2.0)


def dense(images, texts, scale, dims=DIMS, weights=WEIGHTS):
    own = torch.arange(len(images))
    loss = 0.0
    for dim, weight in zip(dims, weights, strict=True):
        logits = scale * unit(images[:, :dim]) @ unit(texts[:, :dim]).T
        loss = loss + weight * (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
    return loss


def loss_by(backend, dims=DIMS, weights=WEIGHTS, **options):
    return lambda *inputs: fastclip.matryoshka_clip_loss(
        *inputs, dims, weights, backend=backend, **options
    )


@pytest.mark.parametrize("kind, scale", PROBLEMS)
def test_loss_is_the_weighted_sum_over_prefixes(backend, kind, scale):
    features = views(2, N, D, kind)
    for check in (check_exact, check_float32):
        check(loss_by(backend), dense, features, scale)


def test_without_weights_each_prefix_counts_once_and_its_loss_is_returned():
    images, texts = views(2, N, D)
    loss, of_dims = fastclip.matryoshka_clip_loss(images, texts, 14.3, DIMS, return_dims=True)
    assert tuple(of_dims) == DIMS
    for dim, one in of_dims.items():
        torch.testing.assert_close(one, dense(images, texts, 14.3, (dim,), (1.0,)))
    torch.testing.assert_close(loss, sum(of_dims.values()))


def test_what_follows_the_largest_prefix_has_no_gradient():
    features = views(2, N, D)
    expected = value_and_gradients(lambda *x: dense(*x, (5, 9), (1.0, 1.0)), features, 14.3,
                                   torch.float64)  # fmt: skip
    found = value_and_gradients(loss_by("auto", (5, 9), None), features, 14.3, torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert not found[1][:, 9:].any() and found[1][:, :9].any()


def test_loss_is_a_loop_of_open_clips():
    from tests.support.peers import open_clip

    their = open_clip.ClipLoss()

    def loop(images, texts, scale):
        return sum(
            weight * their(unit(images[:, :dim]), unit(texts[:, :dim]), scale)
            for dim, weight in zip(DIMS, WEIGHTS, strict=True)
        )

    check_exact(fastclip.MatryoshkaClipLoss(DIMS, WEIGHTS), loop, views(2, N, D, "trained"), 100.0)


def test_options_of_clip_loss_hold_at_each_prefix():
    images, texts, extra = (*views(2, N, D), views(1, 5, D, "cone")[0])
    options = dict(label_smoothing=0.1, margin=0.2)

    def expected(images, texts, extra, scale):
        return sum(
            weight * dense_clip_loss(
                images[:, :dim], texts[:, :dim], scale, extra[:, :dim], normalize=True,
                direction_weights=(0.7, 0.3), **options,
            )
            for dim, weight in zip(DIMS, WEIGHTS, strict=True)
        )  # fmt: skip

    directions = {"image_to_text": 0.7, "text_to_image": 0.3}
    loss = fastclip.MatryoshkaClipLoss(DIMS, WEIGHTS, directions=directions, **options)
    check_exact(lambda images, texts, extra, scale: loss(images, texts, scale,
                                                         extra_text_features=extra),
                expected, [images, texts, extra], 14.3)  # fmt: skip


def test_terms_of_a_module_add_up_to_its_loss():
    images, texts = views(2, N, D)
    bias = torch.tensor(-10.0, requires_grad=True)
    loss = pickle.loads(pickle.dumps(fastclip.MatryoshkaClipLoss(DIMS, WEIGHTS)))
    assert loss.state_dict() == {}
    # As open_clip's trainer calls a loss, and adds up all that it returns.
    terms = loss(image_features=images, text_features=texts, logit_scale=14.3, logit_bias=bias,
                 output_dict=True)  # fmt: skip
    assert list(terms) == [f"contrastive_{dim}_loss" for dim in DIMS]
    for dim, weight, term in zip(DIMS, WEIGHTS, terms.values(), strict=True):
        torch.testing.assert_close(term, dense(images, texts, 14.3, (dim,), (weight,)))
    torch.testing.assert_close(sum(terms.values()), loss(images, texts, 14.3), rtol=0, atol=0)
    sum(terms.values()).backward()
    assert bias.grad == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_features_have_a_loss_in_float32(dtype):
    features = [x.to(dtype) for x in views(2, N, D)]
    exact = value_and_gradients(dense, features, 14.3, torch.float64)
    leaves = [x.requires_grad_() for x in features]
    loss = loss_by("auto")(*leaves, 14.3)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.detach().double(), exact[0], rtol=1e-5, atol=1e-5)
    for one, other in zip(torch.autograd.grad(loss, leaves), exact[1:], strict=False):
        assert one.dtype == dtype
        # Of three roundings, one per prefix, and two of their sums.
        assert (one.double() - other).norm() / other.norm() < 4 * torch.finfo(dtype).eps


def test_under_autocast_towers_may_end_in_two_dtypes():
    x, y, extra = (x.float() for x in views(3, N, D))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss_by("auto", extra_text_features=extra)(x, y.bfloat16(), 9.0)
    expected = loss_by("auto", extra_text_features=extra)(x, y.bfloat16().float(), 9.0)
    torch.testing.assert_close(mixed, expected)


def test_no_tensor_has_the_size_of_all_scores():
    check_memory(loss_by("chunked", (8, 4), None, workspace=ONE_BLOCK), views(2, 2048, 8))


@pytest.mark.compilers
def test_module_compiles_into_one_graph_and_shows_its_options():
    inputs = (*(x.float() for x in views(2, N, D)), torch.tensor(14.3))
    loss = fastclip.MatryoshkaClipLoss(DIMS, WEIGHTS, backend="chunked", margin=0.1)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), loss(*inputs))
    assert repr(loss).startswith(
        "MatryoshkaClipLoss(dims=(7, 24, 16), weights=(0.5, 1.0, 2.0), margin=0.1, "
        "backend='chunked'"
    )


class Tower(torch.nn.Module):
    num_features = D

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(D, D)

    def forward(self, x):
        return self.layer(x).tanh()


def make_model():
    torch.manual_seed(0)
    return fastclip.TwoTower(Tower(), Tower(), embed_dim=8).double()


def test_a_step_in_micro_batches_has_the_gradients_of_the_whole():
    images, texts = views(2, N, D)
    loss = fastclip.MatryoshkaClipLoss((8, 3))
    model, cached = make_model(), make_model()
    loss(*model(images, texts)).backward()
    cached_step(cached, (images, texts), loss, 5)
    for one, other in zip(cached.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-13)


X = torch.ones(4, 3)


@pytest.mark.parametrize(
    "dims, options, error, message",
    [
        ((), {}, ValueError, "dims must have at least one length of a prefix, got none"),
        ((2, 0), {}, ValueError, "dims must be at least 1, got 0"),
        ((2, -1), {}, ValueError, "dims must be at least 1, got -1"),
        ((2, 4), {}, ValueError, "dims must be at most D, 3 of these features, got 4"),
        ((2, 3, 2), {}, ValueError, r"dims must all be different, got \(2, 3, 2\)"),
        ((2.0,), {}, TypeError, "dims must be integers, got float"),
        ((True,), {}, TypeError, "dims must be integers, got bool"),
        (3, {}, TypeError, "dims must be a list of integers, got int"),
        ({3, 2}, {}, TypeError, "dims must be a list of integers, got set"),
        ("32", {}, TypeError, "dims must be a list of integers, got str"),
        ((3, 2), dict(weights=(1.0,)), ValueError, "weights must be as many as dims, 2, got 1"),
        ((3,), dict(weights=(0.0,)), ValueError, r"weights\[0\] must be finite and > 0, got 0.0"),
        ((3,), dict(weights=(float("nan"),)), ValueError, r"weights\[0\] must be finite"),
        ((3,), dict(weights=("1",)), TypeError, r"weights\[0\] must be a number, got str"),
        ((3,), dict(weights=1.0), TypeError, "weights must be a list of numbers, .* got float"),
        ((3,), dict(weights={3: 1.0}), TypeError, "weights must be a list of numbers, .* got dict"),
    ],
)
def test_bad_dims_and_weights_are_named(dims, options, error, message):
    with pytest.raises(error, match=message):
        fastclip.matryoshka_clip_loss(X, X, 10.0, dims, **options)
    if "at most D" not in message:
        with pytest.raises(error, match=message):
            fastclip.MatryoshkaClipLoss(dims, **options)


def test_bad_features_are_named_also_where_their_prefixes_would_do():
    for texts, message in ((X[1:], "must have the same B"), (torch.ones(4, 5), "the same D"),
                           (X.double(), "the same dtype")):  # fmt: skip
        with pytest.raises(ValueError, match=f"image_features and text_features .*{message}"):
            fastclip.matryoshka_clip_loss(X, texts, 10.0, (2,))
        if len(texts) == 4:
            with pytest.raises(ValueError, match=message):
                fastclip.matryoshka_clip_loss(X, X, 10.0, (2,), extra_text_features=texts)
    with pytest.raises(ValueError, match="logit_scale must be"):
        fastclip.matryoshka_clip_loss(X, X, -1.0, (2,))
    with pytest.raises(ValueError, match="label_smoothing must be in"):
        fastclip.MatryoshkaClipLoss((2,), label_smoothing=1.0)


def test_numbers_of_numpy_and_generators_are_dims():
    numpy = pytest.importorskip("numpy")
    assert fastclip.MatryoshkaClipLoss(numpy.array([3, 2])).dims == (3, 2)
    assert fastclip.MatryoshkaClipLoss(x for x in (3, 2)).dims == (3, 2)
