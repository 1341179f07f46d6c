"""Gradients by the transforms of torch.func are the gradients of .backward(); those that fastclip
does not have raise.

`LOSSES` return a value of any shape; the truth is autograd's `jacobian` of the same function, one
output after the other, without transforms.
"""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacrev, vjp, vmap

import fastclip
from fastclip.ops import schemas
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.rectangle import Diagonal, Interval, Rectangle
from tests.support.inputs import planted_features, square

K, N, D = 3, 7, 5


def inputs(dtype=torch.float64):
    """(K, N, D) images and texts, and a scale and a bias."""
    sides = [planted_features(square(K * N, D), "trained", dtype)[i] for i in (0, 1)]
    scalars = torch.tensor(8.0, dtype=dtype), torch.tensor(-3.0, dtype=dtype)
    return *(x.reshape(K, N, D) for x in sides), *scalars


def clip(backend, **options):
    return lambda image, text, scale, bias: fastclip.clip_loss(
        image, text, scale, backend=backend, **options
    )


def options(backend):
    weights = torch.linspace(0.5, 2.0, N, dtype=torch.float64)
    extra = torch.linspace(1.0, 9.0, 4 * D, dtype=torch.float64).view(4, D).sin()
    return clip(
        backend, label_smoothing=0.1, margin=0.2, weights=weights, extra_text_features=extra,
        directions={"image_to_text": 0.3, "text_to_image": 0.9}, reduction="none",
    )  # fmt: skip


def siglip(backend, **options):
    return lambda *xs: fastclip.siglip_loss(*xs, backend=backend, **options)


def stats(backend):
    """Statistics are constants beside the loss."""

    def function(image, text, scale, bias):
        loss, stats = fastclip.clip_loss(image, text, scale, backend=backend, return_stats=True)
        return loss + sum(x for x in stats if x is not stats.hardest_negative)

    return function


def modules(backend):
    """Both modules with parameters of an encoder, by functional_call."""
    losses = [kind(backend=backend) for kind in (fastclip.ClipLoss, fastclip.SigLipLoss)]

    def function(image, text, scale, bias):
        return sum(functional_call(loss, {}, (image, text, scale, bias)) for loss in losses)

    return function


LOSSES = {
    "clip": clip,
    "clip, rows": lambda backend: clip(backend, reduction="none", normalize=True),
    "clip, statistics": stats,
    "clip, options": options,
    "clip, nothing kept": lambda backend: clip(backend, workspace=0),
    "siglip": siglip,
    "siglip, rows": lambda backend: siglip(backend, reduction="none", normalize=True),
    "modules": modules,
}
torchs_own_warning = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def jacobian(function, *xs):
    return torch.autograd.functional.jacobian(function, xs)


def same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)


@each_loss
def test_jacrev_and_vjp_equal_autograd(backend, loss):
    images, texts, *scalars = inputs()
    xs = images[0], texts[0], *scalars
    used = loss(backend)
    expected = jacobian(used, *xs)
    argnums = [i for i in range(4) if expected[i].any()]
    same(jacrev(used, tuple(argnums))(*xs), tuple(expected[i] for i in argnums))
    value, backward = vjp(used, *xs)
    same(value, used(*xs))
    weights = torch.linspace(-1.0, 2.0, value.numel(), dtype=value.dtype).view_as(value)
    weighted = tuple(torch.tensordot(weights, x, value.dim()) for x in expected)
    same(backward(weights), weighted)


@each_loss
def test_vmap_and_grad_equal_autograd_in_either_order(backend, loss):
    images, texts, *scalars = inputs()
    used = loss(backend)

    def total(*xs):
        return used(*xs).sum()

    expected = [jacobian(total, *pair, *scalars) for pair in zip(images, texts, strict=True)]
    of_image, of_text, of_scale, of_bias = map(torch.stack, zip(*expected, strict=True))
    wanted, by_sample = (0, 1, 2, 3), (0, 0, None, None)
    per_sample = vmap(grad(total, wanted), by_sample)(images, texts, *scalars)
    same(per_sample, (of_image, of_text, of_scale, of_bias))

    def of_all(images, texts, *scalars):
        return vmap(total, by_sample)(images, texts, *scalars).sum()

    of_sum = grad(of_all, wanted)(images, texts, *scalars)
    same(of_sum, (of_image, of_text, of_scale.sum(), of_bias.sum()))
    # Without a transform of autograd's around it, vmap is part of an ordinary graph.
    leaves = [x.clone().requires_grad_() for x in (images, texts, *scalars)]
    of_all(*leaves).backward()
    same([x.grad if x.grad is not None else torch.zeros_like(x) for x in leaves], list(of_sum))


@pytest.mark.parametrize("frozen", [0, 1, 2])
@pytest.mark.parametrize("loss", [clip, siglip])
def test_one_side_may_be_frozen_or_shared_by_all_samples(backend, loss, frozen):
    images, texts, *scalars = inputs()
    used, xs = loss(backend), [images, texts, *scalars]
    in_dims = [0, 0, None, None]
    if frozen < 2:
        xs[frozen], in_dims[frozen] = xs[frozen][0], None
    learned = tuple(i for i in range(3) if i != frozen)
    rest = {i: x for i, x in enumerate(xs) if i not in learned}

    def function(*leaves):
        of = dict(zip(learned, leaves, strict=True)) | rest
        return vmap(used, tuple(in_dims))(*(of[i] for i in range(4))).sum()

    leaves = [xs[i] for i in learned]

    def one_by_one(*leaves):
        of = dict(zip(learned, leaves, strict=True)) | rest
        return sum(
            used(*(of[i] if in_dims[i] is None else of[i][k] for i in range(4))) for k in range(K)
        )

    expected = jacobian(one_by_one, *leaves)
    same(grad(function, tuple(range(len(leaves))))(*leaves), expected)


@pytest.mark.parametrize("loss", [clip, siglip])
def test_scales_may_be_mapped_over(backend, loss):
    images, texts, _, bias = inputs()
    scales = torch.tensor([1.0, 8.0, 30.0], dtype=torch.float64)
    used = loss(backend)
    mapped = vmap(grad(used, 2), (None, None, 0, None))(images[0], texts[0], scales, bias)
    same(mapped, torch.stack([jacobian(used, images[0], texts[0], s, bias)[2] for s in scales]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loss", [clip, siglip])
def test_dtypes_are_those_of_autograd(backend, loss, dtype):
    images, texts, scale, bias = (x.to(dtype) for x in inputs())
    xs = images[0], texts[0], scale.float(), bias.float()
    expected = jacobian(loss(backend), *xs)[:3]
    actual = grad(loss(backend), (0, 1, 2))(*xs)
    # Logits of up to 8 are rounded on either way, and so is the result.
    of_logits = 2 * 8 * torch.finfo(torch.float32).eps
    for x, y in zip(actual, expected, strict=True):
        budget = (of_logits + torch.finfo(x.dtype).eps) * y.abs().max()
        assert x.dtype == y.dtype and (x.double() - y.double()).abs().max() <= budget


@each_loss
def test_batched_backward_of_an_ordinary_graph(backend, loss):
    images, texts, *scalars = inputs()
    leaves = [x.clone().requires_grad_() for x in (images[0], texts[0], scalars[0])]
    value = loss(backend)(*leaves, scalars[1])
    weights = torch.linspace(-1.0, 2.0, 2 * value.numel(), dtype=value.dtype).view(2, *value.shape)
    batched = torch.autograd.grad(value, leaves, weights, is_grads_batched=True, retain_graph=True)
    for k in range(2):
        same([x[k] for x in batched], list(torch.autograd.grad(value, leaves, weights[k], True)))


@torchs_own_warning
@each_loss
def test_forward_mode_raises(backend, loss):
    images, texts, *scalars = inputs()
    xs = images[0], texts[0], *scalars

    def function(x):
        return loss(backend)(x, *xs[1:])

    refused = pytest.raises(RuntimeError, match="no forward-mode derivative")
    for forward in (
        lambda: torch.func.jvp(function, xs[:1], xs[:1]),
        lambda: torch.func.jacfwd(function)(xs[0]),
        lambda: torch.func.linearize(function, xs[0]),
        lambda: torch.func.hessian(function)(xs[0]),
        lambda: torch.func.jvp(grad(lambda x: function(x).sum()), xs[:1], xs[:1]),
    ):
        with refused:
            forward()
    with forward_ad.dual_level(), refused:
        function(forward_ad.make_dual(xs[0], xs[0]))
    with forward_ad.dual_level(), torch.no_grad(), refused:
        loss(backend)(*xs[:2], forward_ad.make_dual(xs[2], xs[2]), xs[3])


@each_loss
def test_second_derivatives_raise(backend, loss):
    images, texts, *scalars = inputs()
    rest = texts[0], *scalars

    def gradient(image):
        return grad(lambda x: loss(backend)(x, *rest).sum())(image).sum()

    with pytest.raises(RuntimeError, match="first derivatives only"):
        grad(gradient)(images[0])
    with pytest.raises(RuntimeError, match="first derivatives only"):
        gradient(images[0].clone().requires_grad_()).backward()
    with pytest.raises(RuntimeError, match="first derivatives only"):
        jacrev(gradient)(images[0])
    # A gradient depends on the loss's own gradient too, through which PyTorch has its older jvp.
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.functional.jvp(lambda x: loss(backend)(x, *rest), images[0], images[0])


@torchs_own_warning
@pytest.mark.parametrize("name", ["contrastive_lse", "siglip_sum", "siglip_total"])
def test_operators_by_name_have_gradients_and_refuse_forward_mode(name):
    images, texts, scale, bias = inputs()
    call = Call("reference")
    first = torch.arange(N, dtype=torch.int32)

    def square(x):
        own = Interval(first, first + 2)
        return Rectangle(x, texts[0], scale, Diagonal(0), own, normalize=True)

    def log_sum_exp(x):
        _, shift, total, _ = contrastive_lse(square(x), call)
        return shift + total.log()

    function = {
        "contrastive_lse": log_sum_exp,
        "siglip_sum": lambda x: siglip_sum(square(x), bias, call)[0],
        # Its gradients are known beforehand, or not.
        "siglip_total": lambda x: sum(
            schemas.siglip_total(
                *schemas.flat(square(x)), bias, "reference", None, foreseen, False
            )[0]
            for foreseen in (False, True)
        ),
    }[name]
    same(jacrev(function)(images[0]), jacobian(function, images[0])[0])
    assert torch.autograd.gradcheck(function, images[0].clone().requires_grad_())
    with pytest.raises(RuntimeError, match=f"{name} has no forward-mode derivative"):
        torch.func.jvp(function, (images[0],), (images[0],))
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match=name):
        function(forward_ad.make_dual(images[0], images[0]))


@pytest.mark.parametrize("loss", [clip, siglip])
def test_transforms_compile_to_one_graph(loss):  # to the compiler, a backend is a text
    images, texts, *scalars = inputs()
    function = vmap(grad(loss("chunked"), (0, 1, 2)), (0, 0, None, None))
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    same(compiled(images, texts, *scalars), function(images, texts, *scalars))


def test_an_encoder_is_trained_through_functional_call():
    """Per-sample gradients of parameters, as MAML and training loops without state have them."""
    images, texts, *scalars = inputs()
    encoder = torch.nn.Linear(D, D, dtype=torch.float64)
    parameters = dict(encoder.named_parameters())

    def loss(parameters, image, text):
        return fastclip.clip_loss(
            functional_call(encoder, parameters, image), text, scalars[0], normalize=True
        )

    detached = {name: x.detach() for name, x in parameters.items()}
    per_sample = vmap(grad(loss), (None, 0, 0))(detached, images, texts)
    for k in range(K):
        encoder.zero_grad()
        loss(parameters, images[k], texts[k]).backward()
        for name, parameter in parameters.items():
            same(per_sample[name][k], parameter.grad)
