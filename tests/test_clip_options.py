"""Options of fastclip.clip_loss: against dense logits in float64, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import fastclip
from fastclip.ops import dispatch
from fastclip.ops.clip_options import DIRECTIONS
from fastclip.ops.clip_terms import shares
from fastclip.ops.cross_entropy import cross_entropy
from fastclip.rectangle import MAIN_DIAGONAL, Rectangle
from tests.support import dense_clip
from tests.support.backends import AVAILABLE
from tests.support.inputs import planted_features, square
from tests.support.pairwise import cover_pairs

B, D, H = 37, 12, 11
DIRECTION_WEIGHTS = {
    DIRECTIONS: (0.5, 0.5),
    ("image_to_text",): (1.0, 0.0),
    ("text_to_image",): (0.0, 1.0),
    (("text_to_image", 0.3), ("image_to_text", 1.7)): (1.7, 0.3),
}


def tensors(data, scale, dtype=torch.float64):
    """Images, texts, the scale, extra texts and weights; of duplicates, many are the same text."""
    is_duplicated = data == "duplicates"
    image, text = planted_features(square(B, D), "random" if is_duplicated else data, dtype)
    extra = planted_features(square(H, D), "trained", dtype, seed=3)[1]
    if is_duplicated:
        text[5:9], image[7], extra[:4] = text[4].clone(), image[8].clone(), text[2:6]
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(B, generator=generator, dtype=torch.float64)
    weights[3] = 0.0
    scalar = torch.float64 if dtype == torch.float64 else torch.float32
    return image, text, torch.tensor(scale, dtype=scalar), extra, weights


def value_and_gradients(loss, leaves):
    wanted = [x for x in leaves if x is not None]
    coefficients = torch.linspace(-1.0, 2.0, loss.numel(), dtype=loss.dtype).view(loss.shape)
    return loss.detach(), torch.autograd.grad((coefficients * loss).sum(), wanted)


def directions_of(key):
    return dict(key) if isinstance(key[0], tuple) else key


CASES = cover_pairs(
    AVAILABLE, [("random", 14.3), ("adversarial", 100.0), ("duplicates", 100.0)],
    [0.0, 0.1, 0.9], [0.0, 0.25, -0.1], [False, True], list(DIRECTION_WEIGHTS), [False, True],
    ["mean", "none"], [False, True], [None, 0, 5000],
)  # fmt: skip


@pytest.mark.parametrize(
    "backend, data, label_smoothing, margin, is_weighted, directions, has_extra, reduction, "
    "normalize, workspace",
    CASES,
)
def test_value_and_gradients_are_those_of_dense_logits(
    backend, data, label_smoothing, margin, is_weighted, directions, has_extra, reduction,
    normalize, workspace,
):  # fmt: skip
    of_directions = DIRECTION_WEIGHTS[directions]
    image, text, scale, extra, weights = tensors(*data)
    if normalize:
        image, text, extra = 3.0 * image, 0.2 * text, 7.0 * extra
    # Texts alone do not see extra ones.
    extra = extra if has_extra and of_directions[0] > 0 else None
    inputs = image, text, scale, extra, weights if is_weighted else None
    leaves, twins = (
        [None if x is None else x.clone().requires_grad_() for x in inputs] for _ in range(2)
    )
    given = dict(label_smoothing=label_smoothing, margin=margin, normalize=normalize,
                 reduction=reduction)  # fmt: skip
    actual = fastclip.clip_loss(
        *leaves[:3], extra_text_features=leaves[3], weights=leaves[4], backend=backend,
        directions=directions_of(directions), workspace=workspace, **given,
    )  # fmt: skip
    expected = dense_clip.clip_loss(*twins, direction_weights=of_directions, **given)
    torch.testing.assert_close(
        value_and_gradients(actual, leaves), value_and_gradients(expected, twins),
        rtol=1e-10, atol=1e-10,
    )  # fmt: skip


def test_every_pair_of_options_is_among_the_cases():
    on = [
        {i for i, (x, none) in enumerate(zip(case[1:6], (0.0, 0.0, False, DIRECTIONS, False),
                                             strict=True)) if x != none}
        for case in CASES
    ]  # fmt: skip
    assert all(any({i, j} <= found for found in on) for i in range(5) for j in range(i))


@pytest.mark.parametrize("directions, dims", [(DIRECTIONS, (0, 1)), (DIRECTIONS[:1], (0,))])
def test_label_smoothing_is_torchs(backend, directions, dims):
    image, text, scale, *_ = tensors("trained", 20.0)
    logits = scale * image @ text.T
    expected = [
        F.cross_entropy(x, torch.arange(B), label_smoothing=0.2)
        for x in (logits, logits.T)[: len(dims)]
    ]
    found = fastclip.clip_loss(
        image, text, scale, label_smoothing=0.2, directions=directions, backend=backend
    )
    torch.testing.assert_close(found, sum(expected) / len(dims), rtol=1e-12, atol=0)


def test_a_pair_alone_and_weights_of_zero(backend):
    image, text, scale, *_ = (x.clone().requires_grad_() for x in tensors("random", 10.0))
    options = dict(label_smoothing=0.1, margin=0.3, backend=backend)
    alone = fastclip.clip_loss(image[:1], text[:1], scale, **options)
    none = fastclip.clip_loss(image, text, scale, weights=torch.zeros(B), **options)
    for loss in (alone, none):
        assert loss == 0
        for gradient in torch.autograd.grad(loss, (image, text, scale)):
            torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-14)


def test_a_model_that_fits_keeps_the_relative_accuracy_of_its_loss(backend):
    generator = torch.Generator().manual_seed(0)
    image = torch.linalg.qr(torch.randn(40, 40, generator=generator, dtype=torch.float64))[0]
    text, extra = F.normalize(image + 0.01, dim=1)[:30], image[30:]
    image, scale = image[:30].requires_grad_(), 40.0
    loss = fastclip.clip_loss(
        image, text, scale, margin=0.1, directions=["image_to_text"], extra_text_features=extra,
        backend=backend,
    )  # fmt: skip
    logits = scale * image @ torch.cat((text, extra)).T
    target = logits.diagonal() - 0.1 * scale
    others = logits.masked_fill(torch.eye(30, 40, dtype=torch.bool), float("-inf"))
    true = F.softplus(others.logsumexp(1) - target, threshold=80.0).mean()
    assert 0 < true < 1e-13
    found = loss, *torch.autograd.grad(loss, image)
    expected = true, *torch.autograd.grad(true, image)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-24)


@pytest.mark.parametrize("dtype, rtol", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2),
                                         (torch.float16, 2e-3)])  # fmt: skip
def test_16_bit_features_are_rounded_at_the_end_alone(backend, dtype, rtol):
    image, text, scale, extra, weights = tensors("trained", 14.3, dtype)
    leaves = [x.requires_grad_() for x in (image, text, scale, extra)]
    twins = [x.detach().double().requires_grad_() for x in leaves]
    given = dict(label_smoothing=0.1, margin=0.2)
    actual = fastclip.clip_loss(
        *leaves[:3], extra_text_features=extra, weights=weights, backend=backend, **given
    )
    expected = dense_clip.clip_loss(*twins, weights, **given)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=0)
    gradients = (torch.autograd.grad(*x) for x in ((actual, leaves), (expected, twins)))
    for x, found, true in zip(leaves, *gradients, strict=True):
        assert found.dtype == x.dtype
        assert (found.double() - true).norm() <= rtol * true.norm()


def test_autocast_rounds_nothing_and_may_leave_features_in_different_dtypes(backend):
    image, text, scale, extra, weights = tensors("trained", 20.0, torch.float32)
    given = dict(label_smoothing=0.1, weights=weights, backend=backend)
    rounded = image.bfloat16()
    expected = fastclip.clip_loss(rounded.float(), text, scale, extra_text_features=extra, **given)
    with torch.autocast("cpu", torch.bfloat16):
        found = fastclip.clip_loss(rounded, text.clone(), scale, extra_text_features=extra, **given)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        fastclip.clip_loss(image, text, scale, extra_text_features=extra.bfloat16(), **given)


def test_statistics_see_extra_texts_and_no_margin(backend):
    image, text, scale, extra, weights = tensors("trained", 5.0)
    extra[0] = image[2] / image[2].norm()
    _, stats = fastclip.clip_loss(
        image, text, scale, return_stats=True, margin=0.9, weights=weights, backend=backend,
        extra_text_features=extra, directions=("image_to_text",),
    )  # fmt: skip
    logits = scale * image @ text.T
    others = logits.clone().fill_diagonal_(float("-inf"))
    with_extra = torch.cat((others, scale * image @ extra.T), 1)
    assert (with_extra.amax(1) > others.amax(1)).any()
    expected = fastclip.functional.ClipStats(
        (logits.diagonal() > with_extra.amax(1)).double().mean(),
        (logits.diagonal() > others.amax(0)).double().mean(),
        logits.diagonal().mean(),
        with_extra.max(),
        torch.tensor(0),
    )
    torch.testing.assert_close(stats, expected, rtol=1e-12, atol=0)


class Calls(TorchDispatchMode):
    """The operators that are called, and the largest tensor that one returns."""

    def __init__(self):
        super().__init__()
        self.names, self.num_elements = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.names.append(str(function))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, torch.Tensor):
                self.num_elements = max(self.num_elements, x.numel())
        return result


def recorded(loss_of):
    leaves = [x.clone().requires_grad_() for x in tensors("random", 14.3, torch.float32)[:3]]
    with Calls() as calls:
        loss = loss_of(*leaves)
        loss.backward()
    return calls.names, [loss.detach(), *(x.grad for x in leaves)]


def test_without_options_the_same_operators_give_the_same_bits(backend):
    def plain(image, text, scale):
        rectangle = Rectangle(image, text, scale, MAIN_DIAGONAL)
        call = dispatch.plan("contrastive_lse", backend, rectangle, None)
        return cross_entropy(rectangle, call).loss

    names, expected = recorded(plain)
    for options in (
        {},
        dict(label_smoothing=0.0, margin=0.0, weights=None, directions=DIRECTIONS),
        dict(label_smoothing=0, margin=0, directions=["text_to_image", "image_to_text"]),
        dict(directions={"image_to_text": 0.5, "text_to_image": 0.5}, extra_text_features=None),
    ):
        found = recorded(lambda *x, o=options: fastclip.clip_loss(*x, backend=backend, **o))
        assert found[0] == names
        assert all(map(torch.equal, found[1], expected))
    assert recorded(lambda *x: fastclip.clip_loss(*x, margin=0.1, backend=backend))[0] != names


def test_nothing_is_as_large_as_the_logits():
    N, pool = 2048, 1024
    image, text, extra = (torch.randn(n, 4, requires_grad=True) for n in (N, N, pool))
    with Calls() as calls:
        fastclip.clip_loss(
            image, text, 5.0, label_smoothing=0.1, margin=0.1, weights=torch.ones(N),
            extra_text_features=extra, normalize=True, workspace=0, backend="cpu",
        ).backward()  # fmt: skip
    assert calls.num_elements <= 4 * N


@pytest.mark.parametrize("workspace", [0, 1, 999, 10**9])
@pytest.mark.parametrize("num_texts, num_extra", [(5, 0), (5, 3), (1, 10**6)])
def test_the_workspace_is_shared_out(workspace, num_texts, num_extra):
    of_batch, of_extra = shares(workspace, num_texts, num_extra)
    assert of_batch + of_extra == workspace and min(of_batch, of_extra) >= 0
    assert num_extra > 0 or of_extra == 0


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"label_smoothing": 1.0}, ValueError, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"label_smoothing": -0.1}, ValueError, r"label_smoothing must be in \[0, 1\), got -0.1"),
        ({"label_smoothing": float("nan")}, ValueError, "label_smoothing must be finite, got nan"),
        ({"label_smoothing": "0.1"}, TypeError, "label_smoothing must be a float .*, got str"),
        ({"label_smoothing": torch.tensor(0.0)}, TypeError, "label_smoothing must be a number"),
        ({"margin": float("inf")}, ValueError, "margin must be finite, got inf"),
        ({"margin": None}, TypeError, "margin must be a float .*, got NoneType"),
        ({"directions": ()}, ValueError, "at least one weight above 0"),
        ({"directions": {"image_to_text": 0.0}}, ValueError, "at least one weight above 0"),
        ({"directions": {"image_to_text": -1, "text_to_image": 2}}, ValueError, "no negative"),
        (
            {"directions": {"image_to_text": float("nan")}},
            ValueError,
            "the weight of image_to_text must be finite, got nan",
        ),
        ({"directions": ("text_to_text",)}, ValueError, "names from .*, got 'text_to_text'"),
        ({"directions": ("image_to_text",) * 2}, ValueError, "name each direction at most once"),
        ({"directions": "image_to_text"}, TypeError, "directions must be a list of names .* str"),
        ({"directions": None}, TypeError, "directions must be a list of names .* NoneType"),
        ({"weights": [1.0] * B}, TypeError, "weights must be a torch.Tensor, got list"),
        ({"weights": torch.ones(B - 1)}, ValueError, r"weights .* \(37,\), .* got \(36,\)"),
        ({"weights": torch.ones(B, 1)}, ValueError, r"weights .* \(37,\), .* got \(37, 1\)"),
        ({"weights": torch.full((B,), torch.nan)}, ValueError, "weights must be finite .*got nan"),
        ({"weights": -torch.ones(B)}, ValueError, "weights must be finite .*, got -1.0"),
        ({"weights": torch.ones(B) / 0}, ValueError, "weights must be finite .*, got inf"),
        ({"weights": torch.ones(B).bool()}, ValueError, "weights must be real .* torch.bool"),
        ({"weights": torch.ones(B, device="meta")}, ValueError, "device cpu, got meta"),
        ({"extra_text_features": 3}, TypeError, "extra_text_features must be a torch.Tensor"),
        ({"extra_text_features": torch.ones(H, D)}, ValueError, "must have the dtype of image_fe"),
        ({"extra_text_features": torch.ones(H, D + 1).double()}, ValueError, "D .*, 12, got 13"),
        ({"extra_text_features": torch.ones(0, D).double()}, ValueError, "must not be empty"),
        ({"extra_text_features": torch.ones(D).double()}, ValueError, r"have shape \(H, D\)"),
        (
            {"extra_text_features": torch.ones(B, 2, D).double()},
            ValueError,
            r"have shape \(H, D\), .*; .flatten\(0, 1\) makes one",
        ),
        (
            {"extra_text_features": torch.ones(H, D).double(), "directions": ["text_to_image"]},
            ValueError,
            "extra_text_features are negatives of images: directions must have 'image_to_text'",
        ),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_bad_options_are_refused_by_name(options, error, message):
    image, text, scale, *_ = tensors("random", 10.0)
    with pytest.raises(error, match=message):
        fastclip.clip_loss(image, text, scale, **options)


def test_a_wrong_weight_that_cannot_be_looked_at_makes_the_loss_nan():
    image, text, scale, _, weights = tensors("random", 10.0)
    loss_of = torch.func.vmap(
        lambda w: fastclip.clip_loss(image, text, scale, weights=w, backend="chunked")
    )
    weights = torch.stack((weights, weights, weights))
    weights[1, 4] = -1.0
    found = loss_of(weights)
    assert found.isnan().tolist() == [False, True, False]
