"""Backend `chunked` with factors of 16 bits, as on a GPU, against float64."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fastclip
from fastclip.backends.chunked import narrow as arithmetic
from fastclip.benchmarks.cases import RECTANGLES, Case, make_inputs
from fastclip.benchmarks.gpu import checks
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.rectangle import COLUMNS, ROWS, Diagonal, Interval, Rectangle
from tests.support import exact, rounded
from tests.support.inputs import planted_features, square
from tests.support.pairwise import cover_pairs
from tests.support.tolerance import check_value_and_grads, distance, error_budgets

pytestmark = pytest.mark.usefixtures("narrow")

DATA = ["random", "trained", "cone", "adversarial"]
DTYPES = [torch.bfloat16, torch.float16]
# What eager code with the same factors may be off by is the budget of these.
ROUNDED = [(torch.float16, True), (torch.float16, False), (torch.bfloat16, True)]


def run(image, text, *scalars, loss=fastclip.clip_loss, weights=1.0, **options):
    leaves = [x.detach().clone().requires_grad_() for x in (image, text, *scalars)]
    value = loss(*leaves, backend="chunked", **options)
    return value.detach(), torch.autograd.grad((weights * value).sum(), leaves)


def check(image, text, scale, **options):
    value, grads = run(image, text, scale, **options)
    inputs, outputs = (image, text, scale), [value, *grads]
    function, eager = exact.clip_loss, rounded.clip_loss_of_exponentials
    value, grads = exact.value_and_grads(function, *inputs, dtype=torch.float64, **options)
    true = [value, *grads]
    budgets = error_budgets(eager, inputs, true, [x.dtype for x in outputs], options)
    # In eager code a pair and its one hard negative round alike, and cancel; here a pair is exact.
    budgets[3] += 1e-3 * true[3].abs().item()
    names = ["loss", *(f"gradient {i}" for i in range(len(inputs)))]
    for name, output, of, budget in zip(names, outputs, true, budgets, strict=True):
        error = distance(output, of)
        assert error <= budget, f"{name}: error {error:.3g} above its budget {budget:.3g}"


def relative(actual, true):
    return distance(actual, true) / true.norm().item()


def assert_within_budget(objective, case):
    found = checks.errors("chunked", objective, case)
    assert found.get("passed", True), found["reason"]


@pytest.mark.parametrize(
    "data, scale, dtype, normalize", cover_pairs(DATA, [14.3, 100.0], DTYPES, [True, False])
)
def test_clip_is_not_further_off_than_eager_code_under_autocast(data, scale, dtype, normalize):
    case = Case(400, 72, dtype, scale, data, normalize=normalize)
    assert_within_budget("clip", case)


@pytest.mark.parametrize("data, dtype, normalize", cover_pairs(DATA, DTYPES, [True, False]))
def test_siglip_is_not_further_off_than_eager_code_under_autocast(data, dtype, normalize):
    case = Case(400, 72, dtype, 10.0, data, normalize=normalize)
    assert_within_budget("siglip", case)


@pytest.mark.parametrize("data, scale, kind", cover_pairs(DATA, [14.3, 100.0], ROUNDED))
def test_planted_negatives_match_float64(data, scale, kind):
    dtype, normalize = kind
    image, text = planted_features(square(300, 72), data, dtype)
    check(image, text, torch.tensor(scale), normalize=normalize)


@pytest.mark.parametrize("N, D", [(1, 1), (2, 3), (127, 48), (129, 7), (257, 300), (513, 24)])
def test_ragged_shapes_match_float64(N, D):
    image, text = planted_features(square(N, D), "trained", torch.float64)
    image, text = (3.0 * image).half(), (0.2 * text).half()
    check(image, text, torch.tensor(14.3), normalize=True)


@pytest.mark.parametrize("wants", [None, "rows", "columns"])
@pytest.mark.parametrize("shape", RECTANGLES, ids=str)
def test_rectangles_match_float64(shape, wants):
    sides = {None: {}, "rows": {"sides": ROWS}, "columns": {"sides": COLUMNS}}[wants]
    rows, cols = planted_features(shape, "trained", torch.float16)
    leaves = [x.requires_grad_() for x in (2 * rows, 3 * cols, torch.tensor(-7.0))]
    rectangle = Rectangle(*leaves, shape.positives, **sides)
    positive, shift, total, _ = contrastive_lse(rectangle, Call("chunked"))
    twins = [x.detach().double().requires_grad_() for x in leaves]
    true_positive, true_lse = exact.contrastive_lse(*twins, shape.positives.offset)
    of_rows, of_cols = true_lse.split([shape.M, shape.N])
    true_lse = {None: true_lse, "rows": of_rows, "columns": of_cols}[wants]
    torch.testing.assert_close(positive.double(), true_positive, rtol=2e-6, atol=2e-5)
    torch.testing.assert_close(shift.double() + total.double().log(), true_lse, rtol=0, atol=3e-4)
    assert (total[shift == float("-inf")] == 1).all()

    present = true_lse.isfinite()
    weights, row_weights = (
        torch.linspace(*ends, len(x)) for ends, x in (((-1, 1.5), total), ((2, -0.5), positive))
    )
    loss = (weights * total.log())[present].sum() + (row_weights * positive).sum()
    true_loss = (weights * true_lse)[present].sum() + (row_weights * true_positive).sum()
    grads = torch.autograd.grad(loss, leaves)
    of_rows, of_cols, of_scale = torch.autograd.grad(true_loss, twins)
    assert distance(grads[0], of_rows) <= 2e-3 * of_rows.norm().item() + 2e-3
    assert distance(grads[1], of_cols) <= 2e-3 * of_cols.norm().item() + 2e-3
    assert distance(grads[2], of_scale) <= 5e-3 * of_scale.norm().item() + 5e-3


def with_intervals(dtype: torch.dtype, normalize: bool) -> Rectangle:
    """Near the diagonal and with its pairs, but for one row anywhere, and one that sees nothing."""
    rows, cols = planted_features(square(300, 72), "random", dtype)
    first = torch.arange(300, dtype=torch.int32)
    begin, end = first // 50 * 50 - 3, first // 50 * 50 + 53
    begin[7], end[7], begin[200], end[200] = 131, 280, -(2**31), 2**31 - 1
    leaves = (x.requires_grad_() for x in (rows, cols, torch.tensor(9.0)))
    return Rectangle(*leaves, Diagonal(2), Interval(begin, end), normalize)


def softmax_results(of: Rectangle, backend: str) -> list[torch.Tensor]:
    """Positives, log-sum-exps (0 for none) and gradients."""
    positive, shift, total, _ = contrastive_lse(of, Call(backend))
    lse = shift.masked_fill(shift == float("-inf"), 0.0) + total.log()
    loss = (torch.linspace(-1.0, 1.5, len(lse)) * lse).sum() + positive.cos().sum()
    return [positive.detach(), lse.detach(), *torch.autograd.grad(loss, of[:3])]


def sigmoid_results(of: Rectangle, backend: str) -> list[torch.Tensor]:
    """Losses of the rows and gradients."""
    bias = torch.tensor(-4.0, dtype=of.logit_scale.dtype, requires_grad=True)
    row_loss, _ = siglip_sum(of, bias, Call(backend))
    loss = (torch.linspace(-1.0, 1.5, len(row_loss)) * row_loss).sum()
    return [row_loss.detach(), *torch.autograd.grad(loss, (*of[:3], bias))]


@pytest.mark.parametrize(
    "results, dtype, normalize",
    cover_pairs([softmax_results, sigmoid_results], DTYPES, [True, False]),
)
def test_intervals_match_float64(results, dtype, normalize):
    rectangle = with_intervals(dtype, normalize)
    twins = (x.detach().double().requires_grad_() for x in rectangle[:3])
    true = results(Rectangle(*twins, *rectangle[3:]), "reference")
    for x, of in zip(results(rectangle, "chunked"), true, strict=True):
        assert relative(x, of) <= 6e-3


def test_features_of_any_range_are_exact_where_bfloat16_holds_them():
    image, text = planted_features(square(300, 40), "trained", torch.float64)
    sizes = torch.logspace(-25, 25, 300, dtype=torch.float64)[torch.randperm(300)]
    image, text = (sizes[:, None] * image).bfloat16(), (text / sizes[:, None]).bfloat16()
    # A logit depends on the sizes of both: only a pair's is about one, others overflow a softmax
    # of any precision. What is compared are the logits of the pairs.
    scale = torch.tensor(3.0)
    rectangle = Rectangle(image, text, scale, Diagonal(0))
    positive = contrastive_lse(rectangle, Call("chunked"))[0]
    true = 3.0 * (image.double() * text.double()).sum(1)
    torch.testing.assert_close(positive.double(), true, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "dtype, sizes",
    [(torch.bfloat16, (-9, 1)), (torch.bfloat16, (-3, 3)), (torch.float16, (-2, 3))],
    ids=str,
)
def test_rows_of_very_different_norms(dtype, sizes):
    image, text = planted_features(square(300, 40), "trained", torch.float64)
    image = (torch.logspace(*sizes, 300, dtype=torch.float64)[:, None] * image).to(dtype)
    text, scale = text.to(dtype), torch.tensor(2.0)
    value, grads = run(image, text, scale)
    true, true_grads = exact.value_and_grads(
        exact.clip_loss, image, text, scale, dtype=torch.float64
    )
    assert relative(value, true) < 1e-4
    for grad, of in zip(grads, true_grads, strict=True):
        assert relative(grad, of) < 6e-3


@pytest.mark.parametrize("upstream", [1e-25, -1.0, 65536.0, 1e25])
def test_gradients_are_in_proportion_to_what_comes_from_above(upstream):
    image, text, scale = make_inputs(Case(300, 40, torch.bfloat16, 20.0, "trained"))
    grads = run(image, text, scale)[1]
    scaled = run(image, text, scale, weights=upstream)[1]
    for x, y in zip(grads, scaled, strict=True):
        assert relative(y.double() / upstream, x.double()) < 6e-3


def test_weights_of_both_signs():
    image, text = planted_features(square(300, 40), "random", torch.float16)
    weights = torch.linspace(-1.0, 2.0, 300)
    weights[7] = 0.0
    scale = torch.tensor(30.0)
    _, grads = run(image, text, scale, weights=weights, reduction="none")
    twins = [x.double().requires_grad_() for x in (image, text, scale)]
    true = (weights * exact.clip_loss(*twins, reduction="none")).sum()
    for grad, of in zip(grads, torch.autograd.grad(true, twins), strict=True):
        assert relative(grad, of) < 2e-3


@pytest.mark.parametrize("value", [0.0, -7.0])
@pytest.mark.parametrize("normalize", [True, False])
def test_any_scale(value, normalize):
    image, text = planted_features(square(300, 40), "trained", torch.float16)
    check(image, text, torch.tensor(value), normalize=normalize)


def test_a_model_that_fits_keeps_relative_accuracy():
    """Losses of 1e-12 and gradients in proportion, where lse - positive in float32 returns 0."""
    image, text, scale = make_inputs(Case(300, 64, torch.bfloat16, data="trained"))
    value, grads = run(image, text, scale)
    true, true_grads = exact.value_and_grads(
        exact.clip_loss, image, text, scale, dtype=torch.float64
    )
    assert 0.0 < true < 1e-10
    assert relative(value, true) < 1e-3
    for grad, of in zip(grads, true_grads, strict=True):
        assert relative(grad, of) < 6e-3


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["image", "text", "scale"])
@pytest.mark.parametrize("loss", [fastclip.clip_loss, fastclip.siglip_loss])
def test_non_finite_inputs_reach_the_results(loss, where, bad):
    image, text, scale = make_inputs(Case(300, 16, torch.bfloat16, 10.0))
    {"image": image[299], "text": text[130], "scale": scale.view(1)}[where][0] = bad
    bias = () if loss is fastclip.clip_loss else (torch.tensor(-5.0),)
    for normalize in (True, False):
        value, grads = run(image, text, scale, *bias, loss=loss, normalize=normalize)
        assert not value.isfinite()
        assert not all(grad.isfinite().all() for grad in grads[:2])


def test_statistics_are_those_of_the_logits():
    image, text = planted_features(square(300, 16), "random", torch.float16)
    _, stats = fastclip.clip_loss(image, text, 5.0, backend="chunked", return_stats=True)
    _, expected = fastclip.clip_loss(
        image.double(), text.double(), 5.0, backend="reference", return_stats=True
    )
    for value, true in zip(stats, expected, strict=True):
        assert value.item() == pytest.approx(true.item(), abs=1e-4)


def test_float32_features_stay_float32():
    image, text = planted_features(square(300, 40), "cone")
    scale = torch.tensor(100.0)
    actual = run(image, text, scale)
    check_value_and_grads(actual, exact.clip_loss, image, text, scale)


@pytest.mark.parametrize("loss", [fastclip.clip_loss, fastclip.siglip_loss])
def test_nothing_waits_for_the_device(loss):
    class NoNumbers(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert func is not torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))

    image, text, scale = make_inputs(Case(300, 16, torch.bfloat16, 10.0))
    bias = () if loss is fastclip.clip_loss else (torch.tensor(-5.0),)
    results = softmax_results if loss is fastclip.clip_loss else sigmoid_results
    rectangle = with_intervals(torch.bfloat16, normalize=True)
    with NoNumbers():
        run(image, text, scale, *bias, loss=loss, normalize=True)
        results(rectangle, "chunked")
        with pytest.raises(AssertionError):
            scale.item()


def test_compiled_gives_the_same():
    image, text, scale = make_inputs(Case(300, 16, torch.bfloat16, 10.0))
    expected = run(image, text, scale)
    compiled = torch.compile(fastclip.clip_loss, backend="aot_eager", fullgraph=True)
    actual = run(image, text, scale, loss=compiled)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


class TestPlantedBugs:
    """What the tests above would say of a mistake."""

    def fails(self):
        image, text = planted_features(square(300, 72), "trained", torch.float16)
        with pytest.raises(AssertionError, match="above its budget"):
            check(image, text, torch.tensor(100.0), normalize=True)

    def test_g_without_a_scale(self, monkeypatch):
        monkeypatch.setattr(arithmetic, "_weight", torch.ones_like)
        with pytest.raises(AssertionError):
            test_a_model_that_fits_keeps_relative_accuracy()
        with pytest.raises(AssertionError):
            test_gradients_are_in_proportion_to_what_comes_from_above(1e-25)

    def test_operands_of_fewer_digits(self, monkeypatch):
        unit_rows = arithmetic._unit_rows
        monkeypatch.setattr(
            arithmetic, "_unit_rows", lambda x, factor: unit_rows(x, factor).bfloat16().half()
        )
        self.fails()

    def test_g_of_one_side_only(self, monkeypatch):
        gradient = arithmetic.Narrow.softmax_gradient
        monkeypatch.setattr(
            arithmetic.Narrow, "softmax_gradient",
            lambda self, products, rows, cols: gradient(self, products, rows, None),
        )  # fmt: skip
        self.fails()

    def test_a_pair_that_counts_as_a_negative(self, monkeypatch):
        monkeypatch.setattr(arithmetic, "SMALLEST_SCALE", 0.0)
        image, text = planted_features(square(300, 40), "trained", torch.float16)
        value, _ = run(image, text, torch.tensor(0.0))
        assert not value.isfinite()

    def test_what_pairs_lose_in_rounding(self, monkeypatch):
        case = Case(1000, 72, torch.bfloat16, 10.0, "random", normalize=True)
        monkeypatch.setattr(arithmetic.Narrow, "lost", lambda self, exact, grad: 0.0 * exact)
        with pytest.raises(AssertionError, match="logit_scale: error"):
            assert_within_budget("siglip", case)
