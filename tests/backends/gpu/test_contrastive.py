"""clip_loss and its primitive with every set of kernels against float64."""

import math

import pytest
import torch

import fastclip
from fastclip.backends.gpu import blocks, partials, products
from fastclip.backends.gpu.precision import kept_layout
from fastclip.benchmarks.cases import RECTANGLES, Case, make_inputs
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.rectangle import Diagonal, Rectangle
from tests.support import exact, rounded
from tests.support.inputs import planted_features, square
from tests.support.pairwise import cover_pairs
from tests.support.tolerance import check_value_and_grads, distance

# numpy, which interprets the kernels, warns of what they overwrite: the exponential of a pair.
pytestmark = [
    pytest.mark.rehearsal,
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:All-NaN slice encountered:RuntimeWarning"),
]

DTYPES = [torch.float32, torch.float16]
DATA = ["random", "trained", "cone", "adversarial"]


# Of bytes: room for a block, and for no logits of the forward, as of a batch of many thousands.
BLOCK_ONLY = kept_layout("contrastive_lse", torch.float16).reserved_bytes


def run(gpu, image, text, *scalars, loss=fastclip.clip_loss, workspace=BLOCK_ONLY, **options):
    leaves = [x.detach().to(gpu.device).requires_grad_() for x in (image, text, *scalars)]
    value = loss(*leaves, backend=gpu.backend, workspace=workspace, **options)
    grads = torch.autograd.grad(value.sum(), leaves)
    return value.detach().cpu(), [grad.cpu() for grad in grads]


def eager_of(dtype):
    """float32 features get float32-grade products: the budget is that of float32 sums."""
    return rounded.clip_loss_in_steps if dtype == torch.float32 else rounded.clip_loss


def check(actual, image, text, scale, **options):
    check_value_and_grads(
        actual, exact.clip_loss, image, text, scale, eager=eager_of(image.dtype), **options
    )


@pytest.mark.parametrize("data, logit_scale, dtype", cover_pairs(DATA, [14.3, 100.0], DTYPES))
def test_clip_loss_data_and_dtypes_match_float64(gpu, data, logit_scale, dtype):
    image, text = planted_features(square(140, 72), data, dtype)
    scale = torch.tensor(logit_scale)
    check(run(gpu, image, text, scale), image, text, scale)


@pytest.mark.parametrize("data", DATA)
def test_the_logits_of_a_small_batch_are_kept_and_match_float64(gpu, data):
    image, text = planted_features(square(140, 72), data, torch.float16)
    scale = torch.tensor(100.0)
    check_value_and_grads(
        run(gpu, image, text, scale, workspace=None), exact.clip_loss, image, text, scale,
        eager=rounded.clip_loss_of_kept_logits,
    )  # fmt: skip


@pytest.mark.parametrize(
    "data, logit_scale",
    [("random", 14.3), ("trained", 100.0), ("cone", 14.3), ("cone", 100.0), ("adversarial", 100.0)],
)
def test_gradients_are_closer_than_those_of_eager_code_under_autocast(gpu, data, logit_scale):
    """On features that bfloat16 holds, before gradients are rounded to it; normalisation included.

    Never further off than eager code, and on all but the adversarial data three times closer.
    """
    image, text = (x.bfloat16().float() for x in planted_features(square(200, 72), data))
    scale = torch.tensor(logit_scale)
    _, true = exact.value_and_grads(
        lambda *x: exact.clip_loss(*x, normalize=True), image, text, scale, dtype=torch.float64
    )
    leaves = [x.clone().requires_grad_() for x in (image, text, scale)]
    with torch.autocast("cpu", torch.bfloat16):
        a, b = (torch.nn.functional.normalize(x, dim=1) for x in leaves[:2])
        logits, labels = leaves[2] * a @ b.T, torch.arange(200)
        loss = sum(torch.nn.functional.cross_entropy(x, labels) for x in (logits, logits.T)) / 2
    eager = torch.autograd.grad(loss, leaves)
    _, ours = run(gpu, image.half(), text.half(), scale, normalize=True)
    factor = 1.0 if data == "adversarial" else 3.0
    for side in (0, 1):
        assert factor * distance(ours[side], true[side]) <= distance(eager[side], true[side])


@pytest.mark.every_architecture
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_architecture_matches_float64(gpu, dtype):
    image, text = planted_features(square(261, 40), "random", dtype)
    scale = torch.tensor(100.0)
    actual = run(gpu, image, text, scale, normalize=True)
    check(actual, image, text, scale, normalize=True)


def check_lengths_and_shape(gpu, N, D, dtype):
    image, text = planted_features(square(N, D), "trained", torch.float64)
    image, text = (3.0 * image).to(dtype), (0.2 * text).to(dtype)
    scale = torch.tensor(14.3)
    check(run(gpu, image, text, scale, normalize=True), image, text, scale, normalize=True)


@pytest.mark.parametrize(
    "N, D, dtype",
    [
        (1, 1, torch.float16), (1, 65, torch.float32), (2, 3, torch.float32),
        (127, 64, torch.float16), (128, 48, torch.float32), (129, 600, torch.float16),
    ],
)  # fmt: skip
def test_ragged_shapes_match_float64(gpu, N, D, dtype):
    check_lengths_and_shape(gpu, N, D, dtype)


@pytest.mark.parametrize("N, D, dtype", [(1, 3, torch.float16), (129, 40, torch.float32)])
def test_as_many_rows_per_program_as_a_gpu_gets_match_float64(gpu, as_shipped, N, D, dtype):
    check_lengths_and_shape(gpu, N, D, dtype)


@pytest.mark.parametrize(
    "shape, normalize", [(x, i % 2 == 1) for i, x in enumerate(RECTANGLES)], ids=str
)
def test_rectangles_match_float64(gpu, shape, normalize):
    rows, cols = planted_features(shape, "trained")
    leaves = [x.to(gpu.device).requires_grad_() for x in (2 * rows, 3 * cols, torch.tensor(7.0))]
    rectangle = Rectangle(*leaves, shape.positives, normalize=normalize)
    positive, shift, total, _ = contrastive_lse(rectangle, Call(gpu.backend))
    twins = [x.detach().cpu().double().requires_grad_() for x in leaves]
    true_positive, true_lse = exact.contrastive_lse(*twins, shape.positives.offset, normalize)
    close = {"rtol": 2e-6, "atol": 2e-5}
    torch.testing.assert_close(positive.cpu().double(), true_positive, **close)
    lse = shift.cpu().double() + total.cpu().double().log()
    torch.testing.assert_close(lse, true_lse, **close)
    assert (total[shift == float("-inf")] == 1).all()

    present = true_lse.isfinite()
    weights = torch.linspace(-1.0, 1.5, len(total))
    row_weights = torch.linspace(2.0, -0.5, len(positive))
    loss = (weights * total.cpu().log())[present].sum() + (row_weights * positive.cpu()).sum()
    true_loss = (weights * true_lse)[present].sum() + (row_weights * true_positive).sum()
    grads = torch.autograd.grad(loss, leaves)
    for grad, true in zip(grads, torch.autograd.grad(true_loss, twins), strict=True):
        assert distance(grad.cpu(), true) <= 5e-6 * true.norm().item() + 1e-6


@pytest.mark.every_architecture
def test_largest_negatives_are_found_on_request(gpu):
    image, text = planted_features(square(150, 24), "random")
    scale = torch.tensor(30.0)
    inputs = [x.to(gpu.device) for x in (image, text, scale)]
    square_of_pairs = Rectangle(*inputs, Diagonal(0))
    _, maximum, total, _ = contrastive_lse(square_of_pairs, Call(gpu.backend), True)
    negatives = 30.0 * image.double() @ text.double().T
    negatives.fill_diagonal_(float("-inf"))
    expected = torch.cat([negatives.amax(1), negatives.amax(0)])
    torch.testing.assert_close(maximum.cpu().double(), expected, rtol=1e-6, atol=1e-5)
    true_lse = torch.cat([negatives.logsumexp(1), negatives.logsumexp(0)])
    lse = maximum.cpu().double() + total.cpu().double().log()
    torch.testing.assert_close(lse, true_lse, rtol=1e-6, atol=2e-5)
    loss, stats = fastclip.clip_loss(*inputs, backend=gpu.backend, return_stats=True)
    expected_loss, expected_stats = fastclip.clip_loss(
        image, text, scale, backend="reference", return_stats=True
    )
    torch.testing.assert_close(loss.cpu(), expected_loss)
    torch.testing.assert_close([x.cpu() for x in stats], list(expected_stats))


@pytest.mark.every_architecture
def test_collapsed_features_do_not_look_perfect(gpu):
    """All logits are equal, and a tie is wrong: not a rounding of the positive makes it right."""
    row = torch.nn.functional.normalize(torch.randn(1, 72), dim=1)
    inputs = [
        x.to(gpu.device) for x in (row.expand(150, 72), row.expand(150, 72), torch.tensor(100.0))
    ]
    loss, stats = fastclip.clip_loss(*inputs, backend=gpu.backend, return_stats=True)
    assert stats.image_to_text_accuracy == stats.text_to_image_accuracy == 0.0
    assert loss.item() == pytest.approx(math.log(150), abs=1e-4)


class TestRescue:
    """Rows that the common shift fails: all of their negatives far below what is possible."""

    def failing(self, dtype=torch.float32):
        # Even images are opposite to all texts.
        return make_inputs(Case(140, 48, dtype, 100.0, "adversarial"))

    @pytest.mark.every_architecture
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_rescued_rows_are_exact(self, gpu, dtype):
        image, text, scale = self.failing(dtype)
        check(run(gpu, image, text, scale), image, text, scale)

    def test_a_single_failing_row_and_column(self, gpu):
        image, text = planted_features(square(130, 48), "random")
        image[129] = -text.mean(0) / text.mean(0).norm()
        image, text = image + 0.0, 0.05 * text + torch.nn.functional.normalize(text.mean(0), dim=0)
        text = torch.nn.functional.normalize(text, dim=1)
        image = torch.nn.functional.normalize(image, dim=1)
        scale = torch.tensor(100.0)
        check(run(gpu, image, text, scale), image, text, scale)


def test_a_model_that_fits_keeps_relative_accuracy(gpu):
    """Losses of 1e-12 and gradients in proportion, where lse - positive in float32 returns 0."""
    image, text, scale = make_inputs(Case(96, 64, data="trained"))
    loss, grads = run(gpu, image, text, scale)
    value, true = exact.value_and_grads(exact.clip_loss, image, text, scale, dtype=torch.float64)
    assert 0.0 < value < 1e-10
    assert loss.item() == pytest.approx(value.item(), rel=3e-3)
    assert distance(grads[0], true[0]) < 3e-3 * true[0].norm()
    assert distance(grads[1], true[1]) < 3e-3 * true[1].norm()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_features_of_any_size_without_normalisation(gpu, dtype):
    image, text = planted_features(square(70, 40), "trained", torch.float64)
    sizes = torch.logspace(-3, 3, 70, dtype=torch.float64)
    image, text = (image * sizes[:, None]).to(dtype), (20.0 * text).to(dtype)
    scale = torch.tensor(0.02)
    check(run(gpu, image, text, scale), image, text, scale)


def test_norms_beyond_float32_squares_and_rows_of_zeros(gpu):
    image, text = planted_features(square(40, 24), "trained")
    image, text = image * 1e30, text * 1e-9
    image[3] = 0.0
    text[7] = 0.0
    scale = torch.tensor(20.0)
    _, grads = run(gpu, image, text, scale, normalize=True)
    value, true = exact.value_and_grads(
        lambda *x: exact.clip_loss(*x, normalize=True), image, text, scale, dtype=torch.float64
    )
    loss, _ = run(gpu, image, text, scale, normalize=True)
    assert loss.item() == pytest.approx(value.item(), rel=1e-6)
    others = torch.arange(40) != 7
    assert distance(grads[0][:3], true[0][:3]) <= 1e-5 * true[0][:3].norm()
    # A row below the clamp of the norm has a gradient of its own, 1e12 times as large.
    assert distance(grads[1][others], true[1][others]) <= 1e-5 * true[1][others].norm()
    assert distance(grads[1][7], true[1][7]) <= 1e-5 * true[1][7].norm()


@pytest.mark.parametrize("frozen", ["image", "text", "both"])
def test_frozen_sides_have_no_gradient_and_no_product(gpu, frozen, monkeypatch):
    image, text = planted_features(square(140, 24), "random")
    scale = torch.tensor(20.0, requires_grad=True)
    needs = frozen == "text", frozen == "image"
    leaves = [
        x.to(gpu.device).requires_grad_(need) for x, need in zip((image, text), needs, strict=True)
    ]
    factors = []  # of the vendor's products: float32 takes three of float16
    multiply = products._addmm
    monkeypatch.setattr(products, "_addmm", lambda *x: (factors.append(x), multiply(*x)))
    scale_there = scale.detach().to(gpu.device).requires_grad_()
    fastclip.clip_loss(*leaves, scale_there, backend=gpu.backend).backward()
    assert len(factors) == 3
    _, true = exact.value_and_grads(exact.clip_loss, image, text, scale, dtype=torch.float64)
    for leaf, grad, need in zip(leaves, true[:2], needs, strict=True):
        assert (leaf.grad is not None) == need
        if need:
            assert distance(leaf.grad.cpu(), grad) <= 2e-6 * grad.norm()
    assert scale_there.grad.item() == pytest.approx(true[2].item(), rel=1e-5)


class TestPanelsAndBlocks:
    """What happens at N = 100,000, at N = 300: several panels, strips, chunks and blocks."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(partials, "PANEL_COLS", 256)
        monkeypatch.setattr(partials, "MOST_STRIPS", 2)
        monkeypatch.setattr(blocks, "BLOCK_BYTES", ((1 << 31, 256 * 256 * 2),))

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_they_add_up(self, gpu, dtype):
        image, text = planted_features(square(300, 24), "random", dtype)
        scale = torch.tensor(100.0)
        check(run(gpu, image, text, scale), image, text, scale)

    @pytest.mark.parametrize(
        "kept_rows, dtype",
        [(100, torch.float32), (100, torch.float16), (256, torch.float16), (300, torch.float32)],
    )
    def test_kept_logits_give_the_same_gradients(self, gpu, dtype, kept_rows, monkeypatch):
        image, text = planted_features(square(300, 24), "random", dtype)
        scale = torch.tensor(100.0)
        monkeypatch.setattr("fastclip.ops.dispatch.kept_rows", lambda *args: kept_rows)
        kept = run(gpu, image, text, scale)
        check(kept, image, text, scale)

    def test_rows_that_pad_a_block_of_kept_logits_do_not_overflow(self, gpu, monkeypatch):
        """They are of the matrix, with shifts of their own: e^0 overflows beside them."""
        monkeypatch.setattr("fastclip.ops.dispatch.kept_rows", lambda *args: 100)
        generator = torch.Generator().manual_seed(0)
        text = torch.randn(300, 24, generator=generator) + 3
        text = torch.nn.functional.normalize(text, dim=1)
        scale = torch.tensor(100.0)
        check(run(gpu, -text, text, scale), -text, text, scale)

    def test_largest_negatives_over_panels(self, gpu):
        image, text = planted_features(square(300, 24), "random")
        inputs = [x.to(gpu.device) for x in (image, text, torch.tensor(30.0))]
        square_of_pairs = Rectangle(*inputs, Diagonal(0))
        _, maximum, _, _ = contrastive_lse(square_of_pairs, Call(gpu.backend), True)
        negatives = 30.0 * image.double() @ text.double().T
        negatives.fill_diagonal_(float("-inf"))
        expected = torch.cat([negatives.amax(1), negatives.amax(0)])
        torch.testing.assert_close(maximum.cpu().double(), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_runs_are_equal_bit_for_bit(gpu, dtype):
    image, text = planted_features(square(200, 40), "random", dtype)
    scale = torch.tensor(100.0)
    first, second = (run(gpu, image, text, scale, normalize=True) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))


def test_precision_of_float32_follows_torch(gpu):
    """ "high" allows 11 bits, as TF32 does: it is less exact, and still within its budget."""
    image, text = planted_features(square(140, 48), "random")
    scale = torch.tensor(100.0)
    _, true = exact.value_and_grads(exact.clip_loss, image, text, scale, dtype=torch.float64)
    errors = []
    before = torch.get_float32_matmul_precision()
    try:
        for precision in ("highest", "high"):
            torch.set_float32_matmul_precision(precision)
            actual = run(gpu, image, text, scale)
            errors.append(distance(actual[1][0], true[0]))
    finally:
        torch.set_float32_matmul_precision(before)
    assert errors[0] < 0.01 * errors[1]
    check_value_and_grads(actual, exact.clip_loss, image, text, scale, eager=rounded.clip_loss)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("normalize", [False, True])
def test_nan_and_inf_reach_the_loss(gpu, bad, normalize):
    image, text = planted_features(square(140, 24), "random")
    image[131, 5] = bad
    inputs = [x.to(gpu.device) for x in (image, text, torch.tensor(10.0))]
    loss = fastclip.clip_loss(*inputs, backend=gpu.backend, normalize=normalize)
    assert not loss.isfinite()


def test_strides_and_expanded_features(gpu):
    image, text = planted_features(square(60, 24), "random")
    wide = torch.zeros(24, 200)
    wide[:, 7:67] = image.T
    scale = torch.tensor(20.0)
    expected = run(gpu, image, text, scale, workspace=None)
    leaves = [
        wide.to(gpu.device)[:, 7:67].T.requires_grad_(),
        text.to(gpu.device),
        scale.to(gpu.device),
    ]
    loss = fastclip.clip_loss(*leaves, backend=gpu.backend)
    (grad,) = torch.autograd.grad(loss, leaves[0])
    assert torch.equal(loss.cpu(), expected[0]) and torch.equal(grad.cpu(), expected[1][0])
    one = text[:1].to(gpu.device).expand(60, 24)
    loss = fastclip.clip_loss(one, leaves[1], leaves[2], backend=gpu.backend)
    assert loss.item() == pytest.approx(
        fastclip.clip_loss(text[:1].expand(60, 24), text, scale, backend="reference").item(),
        rel=1e-5,
    )


def test_gradients_for_the_same_loss_twice_and_with_a_factor(gpu):
    image, text = planted_features(square(60, 24), "random")
    leaves = [x.to(gpu.device).requires_grad_() for x in (image, text, torch.tensor(20.0))]
    loss = fastclip.clip_loss(*leaves, backend=gpu.backend)
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    second = torch.autograd.grad(loss, leaves, retain_graph=True)
    scaled = torch.autograd.grad(65536.0 * loss, leaves)
    for a, b, c in zip(first, second, scaled, strict=True):
        assert torch.equal(a, b) and torch.equal(65536.0 * a, c)


def test_a_second_derivative_raises(gpu):
    leaves = [x.to(gpu.device).requires_grad_() for x in make_inputs(Case(20, 8, logit_scale=5.0))]
    (grad, *_) = torch.autograd.grad(
        fastclip.clip_loss(*leaves, backend=gpu.backend), leaves, create_graph=True
    )
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(grad.sum(), leaves)
