"""fastclip.clip_loss: values and gradients of every backend against float64, and its contract."""

import pytest
import torch
import torch.nn.functional as F

import fastclip
from fastclip.benchmarks.cases import RAGGED, Case, make_inputs
from tests.support import exact
from tests.support.backends import AVAILABLE, FUSED
from tests.support.inputs import planted_features, square
from tests.support.pairwise import cover_pairs
from tests.support.tolerance import check_value_and_grads

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# Both sides of the native tiles' edges (128, 256, 512, and 2048 where the tiles change size).
TILED = [(511, 24), (512, 24), (513, 24), (1025, 8), (2049, 4)]


def run(image_features, text_features, logit_scale, **options):
    leaves = [x.detach().clone().requires_grad_() for x in (image_features, text_features)]
    leaves.append(logit_scale.detach().clone().requires_grad_())
    loss = fastclip.clip_loss(*leaves, **options)
    return loss.detach(), torch.autograd.grad(loss.sum(), leaves)


def scale(value, dtype=torch.float32):
    return torch.tensor(value, dtype=torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("case", RAGGED, ids=str)
def test_clip_loss_ragged_shapes_match_float64(backend, case):
    image, text = planted_features(square(case.N, case.D), "trained")
    actual = run(image, text, scale(14.3), backend=backend)
    check_value_and_grads(actual, exact.clip_loss, image, text, scale(14.3))


@pytest.mark.parametrize(
    "fused_backend, shape, workspace", cover_pairs(FUSED, TILED, [0, None]), ids=str
)
def test_clip_loss_across_tile_edges_matches_float64(fused_backend, shape, workspace):
    N, D = shape
    image, text = planted_features(square(N, D), "random")
    actual = run(image, text, scale(20.0), backend=fused_backend, workspace=workspace)
    check_value_and_grads(actual, exact.clip_loss, image, text, scale(20.0))


@pytest.mark.parametrize(
    "backend, data, logit_scale, dtype",
    cover_pairs(
        AVAILABLE, ["random", "trained", "cone", "adversarial"], [1.0, 14.3, 100.0], DTYPES
    ),
)
def test_clip_loss_data_and_dtypes_match_float64(backend, data, logit_scale, dtype):
    image, text = planted_features(square(200, 72), data, dtype)
    s = scale(logit_scale, dtype)
    actual = run(image, text, s, backend=backend)
    assert actual[0].dtype == s.dtype
    check_value_and_grads(actual, exact.clip_loss, image, text, s)


@pytest.mark.parametrize(
    "backend, shape, dtype", cover_pairs(AVAILABLE, [(1, 5), (65, 40), (600, 33)], DTYPES), ids=str
)
def test_clip_loss_normalize_matches_float64(backend, shape, dtype):
    N, D = shape
    image, text = planted_features(square(N, D), "trained", torch.float64)
    image, text = (3.0 * image).to(dtype), (0.2 * text).to(dtype)
    s = scale(14.3, dtype)
    actual = run(image, text, s, normalize=True, backend=backend)
    check_value_and_grads(actual, exact.clip_loss, image, text, s, normalize=True)


@pytest.mark.parametrize("magnitude", [1e-10, 1e18, 1e30])
def test_clip_loss_normalize_extreme_norms_do_not_overflow(backend, magnitude):
    image, text = planted_features(square(20, 8), "random")
    expected = fastclip.clip_loss(image, text, 10.0, normalize=True, backend=backend)
    actual, grads = run(magnitude * image, text, scale(10.0), normalize=True, backend=backend)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=0)
    assert grads[0].isfinite().all() and grads[1].isfinite().all()


def test_clip_loss_normalize_zero_row_matches_torch_normalize(backend):
    image, text = planted_features(square(20, 8), "random", torch.float64)
    image[3] = 0.0
    s = scale(10.0, torch.float64)
    actual = run(image, text, s, normalize=True, backend=backend)
    true = exact.value_and_grads(
        exact.clip_loss, image, text, s, dtype=torch.float64, normalize=True
    )
    torch.testing.assert_close(actual, true, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_clip_loss_of_a_model_that_fits_keeps_relative_accuracy(backend, dtype):
    """Loss 1e-12: eager float32 returns 0 here, and no gradient."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(64, 64, generator=generator, dtype=torch.float64)
    image = torch.linalg.qr(torch.randn(64, 64, generator=generator, dtype=torch.float64))[0]
    text = F.normalize(image + 0.02 * noise, dim=1)
    image, text, s = image.to(dtype), text.to(dtype), scale(34.0, dtype)
    loss, grads = run(image, text, s, backend=backend)
    true_loss, true_grads = exact.value_and_grads(
        exact.clip_loss, image, text, s, dtype=torch.float64
    )
    assert 1e-13 < true_loss < 1e-11
    # A logit of 34 is rounded to half an ulp, 2e-6 in float32: so much is z, and so the loss, off.
    rtol = 4 * torch.finfo(dtype).eps * 34
    torch.testing.assert_close(loss.double(), true_loss, rtol=rtol, atol=0)
    for grad, true in zip(grads, true_grads, strict=True):
        assert (grad.double() - true).norm() <= rtol * true.norm()
    if dtype == torch.float32:
        assert F.cross_entropy(34 * image @ text.T, torch.arange(64)) == 0


def test_clip_loss_of_one_pair_is_zero_with_zero_gradient(backend):
    image, text = planted_features(square(1, 6), "random")
    loss, grads = run(image, text, scale(100.0), backend=backend)
    assert loss == 0
    assert all((grad == 0).all() for grad in grads)


def test_clip_loss_reduction_none_gives_each_pair_its_loss_and_gradient(backend):
    image, text = planted_features(square(70, 24), "trained", torch.float64)
    weights = torch.linspace(-1.0, 2.0, 70, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for x in (image, text, scale(10.0, torch.float64))]
    losses = fastclip.clip_loss(*leaves, reduction="none", backend=backend)
    twins = [x.detach().clone().requires_grad_() for x in leaves]
    expected = exact.clip_loss(*twins, reduction="none")
    torch.testing.assert_close(losses, expected)
    actual_grads = torch.autograd.grad((weights * losses).sum(), leaves)
    true_grads = torch.autograd.grad((weights * expected).sum(), twins)
    torch.testing.assert_close(actual_grads, true_grads)


def test_clip_loss_stats_equal_those_of_the_logits(backend):
    image, text = planted_features(square(150, 16), "random")
    text[7] = text[8]  # a tie: neither is the strict winner
    loss, stats = fastclip.clip_loss(image, text, 5.0, backend=backend, return_stats=True)
    logits = 5.0 * image.double() @ text.double().T
    negatives = logits.clone().fill_diagonal_(float("-inf"))
    positive = logits.diagonal()
    assert loss.shape == ()
    assert stats.image_to_text_accuracy == (positive > negatives.amax(1)).float().mean()
    assert stats.text_to_image_accuracy == (positive > negatives.amax(0)).float().mean()
    torch.testing.assert_close(stats.mean_positive.double(), positive.mean(), rtol=0, atol=1e-5)
    torch.testing.assert_close(stats.hardest_negative.double(), negatives.max(), rtol=0, atol=1e-5)
    assert not any(value.requires_grad for value in stats)
    module = fastclip.ClipLoss(backend=backend)
    bias = torch.zeros(1, requires_grad=True)
    found = module(image, text, 5.0, bias, return_stats=True)
    torch.testing.assert_close((found[0].detach(), *found[1]), (loss, *stats))
    assert found[0].requires_grad  # through the bias, which has a gradient of zero
    with pytest.raises(ValueError, match="return_stats and output_dict cannot both"):
        module(image, text, 5.0, output_dict=True, return_stats=True)


def test_clip_loss_stats_of_collapsed_features_are_not_perfect(backend):
    features = torch.ones(8, 4) / 2
    _, stats = fastclip.clip_loss(features, features, 10.0, backend=backend, return_stats=True)
    assert stats.image_to_text_accuracy == 0 and stats.text_to_image_accuracy == 0


@pytest.mark.parametrize("form", ["float", "int", "0-d", "(1,)", "half", "no grad"])
def test_clip_loss_logit_scale_forms_agree(backend, form):
    image, text = planted_features(square(30, 16), "random")
    expected = fastclip.clip_loss(image, text, torch.tensor(16.0), backend=backend)
    value = {
        "float": 16.0,
        "int": 16,
        "0-d": torch.tensor(16.0, requires_grad=True),
        "(1,)": torch.tensor([16.0], requires_grad=True),
        "half": torch.tensor(16.0, dtype=torch.float16, requires_grad=True),
        "no grad": torch.tensor([16.0]),
    }[form]
    loss = fastclip.clip_loss(image, text, value, backend=backend)
    torch.testing.assert_close(loss.detach(), expected, rtol=0, atol=0)
    if isinstance(value, torch.Tensor) and value.requires_grad:
        loss.backward()
        assert value.grad.shape == value.shape and value.grad.dtype == value.dtype
        assert value.grad.abs() > 0


@pytest.mark.parametrize("layout", ["transposed", "strided", "expanded"])
def test_clip_loss_non_contiguous_features_agree(backend, layout):
    image, text = planted_features(square(48, 16), "random")
    view = {
        "transposed": lambda x: x.T.contiguous().T,
        "strided": lambda x: x.repeat_interleave(2, 0).repeat_interleave(3, 1)[::2, ::3],
        "expanded": lambda x: x[:1].expand(48, 16),
    }[layout]
    image = view(image)
    assert not image.is_contiguous()
    expected = run(image.contiguous(), text, scale(10.0), backend=backend)
    leaf = image.requires_grad_()
    loss = fastclip.clip_loss(leaf, text, 10.0, backend=backend)
    torch.testing.assert_close(loss.detach(), expected[0])
    torch.testing.assert_close(torch.autograd.grad(loss, leaf)[0], expected[1][0])


@pytest.mark.parametrize("frozen", ["image", "text", "scale", "image and text", "both and none"])
def test_clip_loss_with_frozen_sides_gives_the_others_their_gradient(backend, frozen):
    image, text = planted_features(square(40, 16), "random")
    full = run(image, text, scale(10.0), backend=backend)[1]
    names = ("image", "text", "scale")
    trained = [i for i, name in enumerate(names) if name not in frozen]
    if frozen == "both and none":
        trained = []
    leaves = [image.clone(), text.clone(), scale(10.0)]
    for i in trained:
        leaves[i].requires_grad_()
    loss = fastclip.clip_loss(*leaves, backend=backend)
    assert loss.requires_grad == bool(trained)
    if trained:
        grads = torch.autograd.grad(loss, [leaves[i] for i in trained])
        torch.testing.assert_close(grads, tuple(full[i] for i in trained), rtol=1e-5, atol=1e-9)


def test_clip_loss_backward_twice_scaled_and_accumulated(backend):
    image, text, s = (
        x.requires_grad_() for x in make_inputs(Case(50, 16, logit_scale=10.0), seed=1)
    )
    loss = fastclip.clip_loss(image, text, s, backend=backend)
    before = [x.detach().clone() for x in (image, text, s)]
    first = torch.autograd.grad(loss, (image, text, s), retain_graph=True)
    again = torch.autograd.grad(loss, (image, text, s), retain_graph=True)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    scaled = torch.autograd.grad(loss * 65536.0, (image, text, s), retain_graph=True)
    torch.testing.assert_close(scaled, tuple(65536.0 * g for g in first), rtol=1e-6, atol=0)
    zero = torch.autograd.grad(loss * 0.0, (image, text, s))
    assert all((g == 0).all() for g in zero)
    torch.testing.assert_close([x.detach() for x in (image, text, s)], before, rtol=0, atol=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_clip_loss_without_autograd_gives_the_value(backend, mode):
    image, text, s = make_inputs(Case(300, 16, logit_scale=10.0))
    expected = fastclip.clip_loss(image, text, s, backend=backend)
    with mode():
        loss = fastclip.clip_loss(image.requires_grad_(), text * 1.0, s, backend=backend)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


def test_clip_loss_under_autocast_takes_towers_of_two_dtypes(backend):
    image, text, _ = make_inputs(Case(60, 32, logit_scale=10.0))
    text_16 = text.bfloat16()
    expected = fastclip.clip_loss(image, text_16.float(), 10.0, backend=backend)
    leaf = text_16.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = fastclip.clip_loss(image, leaf, 10.0, backend=backend)
    torch.testing.assert_close(loss.detach(), expected, rtol=0, atol=0)
    loss.backward()
    assert leaf.grad.dtype == torch.bfloat16 and leaf.grad.abs().sum() > 0


def test_clip_loss_under_autocast_is_not_rounded(backend):
    image, text, s = make_inputs(Case(60, 32))
    expected = run(image, text, s, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = run(image, text, s, backend=backend)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "backend, bad, where",
    cover_pairs(AVAILABLE, [float("nan"), float("inf"), float("-inf")], ["image", "text", "scale"]),
)
def test_clip_loss_non_finite_input_reaches_the_loss(backend, bad, where):
    image, text, s = make_inputs(Case(300, 16, logit_scale=10.0))
    {"image": image[299], "text": text[130], "scale": s.view(1)}[where][0] = bad
    loss = fastclip.clip_loss(image, text, s, backend=backend)
    assert not loss.isfinite()


@pytest.mark.parametrize("scale_value", [0.0, -7.0])
def test_clip_loss_any_finite_tensor_scale_is_exact(backend, scale_value):
    image, text = planted_features(square(300, 16), "trained", torch.float64)
    s = scale(scale_value, torch.float64)
    actual = run(image, text, s, backend=backend)
    true = exact.value_and_grads(exact.clip_loss, image, text, s, dtype=torch.float64)
    torch.testing.assert_close(actual, true)


def test_clip_loss_logits_of_a_million_are_exact(backend):
    """No common shift serves logits between -1e6 and 1e6."""
    image, text = planted_features(square(300, 16), "adversarial", torch.float64)
    s = scale(1e6, torch.float64)
    actual = run(image, text, s, backend=backend)
    true = exact.value_and_grads(exact.clip_loss, image, text, s, dtype=torch.float64)
    torch.testing.assert_close(actual, true, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_clip_loss_is_bitwise_repeatable(fused_backend, dtype):
    image, text, s = make_inputs(Case(1300, 40, dtype))
    first = run(image, text, s, backend=fused_backend)
    for _ in range(3):
        torch.testing.assert_close(
            run(image, text, s, backend=fused_backend), first, rtol=0, atol=0
        )


@pytest.mark.parametrize(
    "fused_backend, N, fraction", cover_pairs(FUSED, [300, 2200], [0.0, 0.4, 0.99, 1.0, 2.0])
)
def test_clip_loss_workspace_changes_time_not_results(fused_backend, N, fraction):
    image, text, s = make_inputs(Case(N, 8, logit_scale=10.0))
    workspace = int(fraction * 4 * N * N)
    loss, grads = run(image, text, s, backend=fused_backend)
    other_loss, other_grads = run(image, text, s, backend=fused_backend, workspace=workspace)
    torch.testing.assert_close(other_loss, loss, rtol=1e-6, atol=0)
    for grad, other in zip(grads, other_grads, strict=True):
        assert (grad - other).norm() <= 3e-6 * grad.norm()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_gradient_of_the_scale_beyond_float32_is_not_finite(backend):
    """A sum that no float32 holds is no reason to raise: whoever looks at gradients sees it."""
    image, text = (100.0 * torch.eye(4)).roll((0, 1), (0, 1)), 100.0 * torch.eye(4)
    s = torch.tensor(1.0, requires_grad=True)
    fastclip.clip_loss(image, text, s, backend=backend).backward(torch.tensor(3e38))
    assert not s.grad.isfinite()
