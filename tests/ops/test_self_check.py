"""The comparison of kernels with `chunked`: it passes what is right, also where tensor cores round
toward zero, and finds what is wrong by 100 ulps, in one row, or at an edge."""

import contextlib
import types

import pytest
import torch

from fastclip.backends import chunked
from fastclip.backends.kept_logits import KeptLayout
from fastclip.ops.self_check import disagreement
from tests.support.pairwise import cover_pairs

CPU = torch.device("cpu")
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
PRIMITIVES = ["contrastive_lse", "siglip_sum", "siglip_total"]
FUNCTIONS = ["contrastive_lse", "contrastive_lse_backward", "siglip_sum", "siglip_sum_backward"]


def backend(mistake=lambda name, results: results) -> types.SimpleNamespace:
    """`chunked`, with a mistake; in a namespace of its own, since truth is `chunked`'s."""

    def planted(name):
        return lambda *args: mistake(name, getattr(chunked, name)(*args))

    module = types.SimpleNamespace(**{name: planted(name) for name in FUNCTIONS})

    def in_one_pass(rectangle, bias, workspace, dtype, wants):
        row_loss, kept = module.siglip_sum(rectangle, bias, workspace, 0)
        gradients = module.siglip_sum_backward(
            rectangle, bias, torch.ones_like(row_loss), kept, workspace, wants
        )
        return row_loss.sum(), *(x.to(dtype) for x in gradients[:2]), *gradients[2:]

    module.siglip_sum_with_gradients = in_one_pass
    module.kept_layout = chunked.kept_layout
    return module


def check(module, primitive="contrastive_lse", dtype=torch.float32, D=512):
    with torch.no_grad():
        return disagreement(module, primitive, CPU, dtype, D)


@pytest.mark.parametrize("primitive, dtype, D", cover_pairs(PRIMITIVES, DTYPES, [512, 768, 1024]))
def test_plain_pytorch_passes(primitive, dtype, D):
    assert check(backend(), primitive, dtype, D) is None


@pytest.mark.parametrize(
    "primitive, dtype, normalize", cover_pairs(PRIMITIVES, DTYPES, [False, True]), ids=str
)
def test_both_kinds_of_features_are_checked(primitive, dtype, normalize):
    """Normalised or not: kernels may be wrong for one of them."""

    def planted(name):
        def call(rectangle, *args):
            results = getattr(chunked, name)(rectangle, *args)
            if rectangle.normalize == normalize:
                results[0].mul_(1 + 100 * torch.finfo(dtype).eps)
            return results

        return call

    module = backend()
    for name in FUNCTIONS:
        if name.endswith("backward"):
            setattr(module, name, planted(name))
    said = check(module, primitive, dtype)
    assert said.startswith("the gradient of rows")
    assert said.endswith("on the plain batch" if normalize else "on the hard batch")


@pytest.mark.parametrize("primitive", PRIMITIVES)
@pytest.mark.parametrize("moved", ["begin", "end", None], ids=str)
def test_an_interval_that_is_a_column_off_is_found(primitive, moved):
    def planted(name):
        def call(rectangle, *args):
            excluded = rectangle.excluded
            if excluded is not None:
                excluded = moved and excluded._replace(**{moved: getattr(excluded, moved) + 1})
            return getattr(chunked, name)(rectangle._replace(excluded=excluded), *args)

        return call

    module = backend()
    for name in FUNCTIONS:
        setattr(module, name, planted(name))
    said = check(module, primitive)
    assert said.endswith("on the masked batch")


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_a_gpus_exponential_passes(primitive):
    """Its errors, up to 2^-22 each, may all have one sign."""

    def mistake(called, results):
        for position in {"contrastive_lse": (2,), "siglip_sum": (0,)}.get(called, range(4)):
            if position < len(results):
                results[position].mul_(1 + 2.0**-22)
        return results

    assert check(backend(mistake), primitive) is None


OUTPUTS = [
    ("contrastive_lse", "contrastive_lse", 0, "the positives"),
    ("contrastive_lse", "contrastive_lse", 1, "the "),  # a shift, which gradients feel more
    ("contrastive_lse", "contrastive_lse", 2, "the log-sum-exps"),
    ("contrastive_lse", "contrastive_lse_backward", 0, "the gradient of rows"),
    ("contrastive_lse", "contrastive_lse_backward", 1, "the gradient of columns"),
    ("contrastive_lse", "contrastive_lse_backward", 2, "the gradient of logit_scale"),
    ("siglip_sum", "siglip_sum", 0, "the row losses"),
    ("siglip_sum", "siglip_sum_backward", 0, "the gradient of rows"),
    ("siglip_sum", "siglip_sum_backward", 1, "the gradient of columns"),
    ("siglip_sum", "siglip_sum_backward", 2, "the gradient of logit_scale"),
    ("siglip_sum", "siglip_sum_backward", 3, "the gradient of logit_bias"),
    ("siglip_total", "siglip_sum", 0, "the sum of losses"),
    ("siglip_total", "siglip_sum_backward", 1, "the gradient of columns"),
]


@pytest.mark.parametrize("primitive, function, position, name", OUTPUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_100_ulps_are_found(primitive, function, position, name, dtype):
    def mistake(called, results):
        if called != function:
            return results
        results = list(results)
        results[position] = results[position] * (1 + 100 * torch.finfo(dtype).eps)
        return tuple(results)

    assert check(backend(mistake), primitive, dtype).startswith(name)


def of_one_element(function, position, index, value):
    def mistake(called, results):
        if called == function:
            results[position][index] = value(results[position][index])
        return results

    return mistake


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("index", [0, 127, -1])
def test_one_wrong_row_is_found(dtype, index):
    for position, side in enumerate(("rows", "columns")):
        mistake = of_one_element("contrastive_lse_backward", position, index, lambda x: 0 * x)
        assert check(backend(mistake), dtype=dtype).startswith(f"the gradient of {side}")
    nan = of_one_element("contrastive_lse", 2, index, lambda x: x * float("nan"))
    assert "off by nan" in check(backend(nan), dtype=dtype)


def test_a_column_too_few_is_found():
    def forgets_the_last_column(rectangle, *args):
        M, N = len(rectangle.rows), len(rectangle.cols)
        shorter = rectangle._replace(cols=rectangle.cols[:-1])
        positive, shift, total, kept = chunked.contrastive_lse(shorter, *args)
        whole = chunked.contrastive_lse(rectangle, *args)
        of_cols = (torch.cat([x[:M], y[M:]]) for x, y in ((shift, whole[1]), (total, whole[2])))
        assert len(whole[1]) == M + N
        return positive, *of_cols, kept

    module = backend()
    module.contrastive_lse = forgets_the_last_column
    for dtype in DTYPES:
        assert check(module, dtype=dtype).startswith("the log-sum-exps")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_where_logits_are_kept_unasked_their_gradient_is_checked_too(dtype):
    rows_kept = []

    def forward(rectangle, workspace, kept_rows, needs_maximum):
        rows_kept.append(kept_rows)
        return chunked.contrastive_lse(rectangle, workspace, 0, needs_maximum)

    def wrong_from_kept(rectangle, *args):
        gradients = list(chunked.contrastive_lse_backward(rectangle, *args))
        if rows_kept[-1] > 0:
            gradients[1] = gradients[1] * (1 + 100 * torch.finfo(dtype).eps)
        return tuple(gradients)

    module = backend()
    module.kept_layout = lambda *_: KeptLayout(default_bytes=1 << 20, element_bytes=2)
    module.contrastive_lse = forward
    assert check(module, dtype=dtype) is None
    assert rows_kept == [0, 139, 0, 270, 0, 70]  # of the plain, the hard and the masked one
    module.contrastive_lse_backward = wrong_from_kept
    if dtype != torch.float32:  # whose kept logits have no 16 bits, and are not kept unasked
        said = check(module, dtype=dtype)
        assert said.startswith("the gradient of columns") and said.endswith(", with kept logits")


@pytest.fixture
def interpreted(monkeypatch):
    pytest.importorskip("triton")
    from tests.support.interpreter import few_programs

    monkeypatch.setenv("TRITON_INTERPRET", "1")
    few_programs(monkeypatch)


@pytest.mark.rehearsal
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU compiles the kernels")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's
@pytest.mark.parametrize(
    "primitive, dtype, toward_zero",
    [
        ("contrastive_lse", torch.float16, False),
        ("contrastive_lse", torch.float32, True),
        ("siglip_total", torch.float16, True),
        ("siglip_total", torch.float32, False),
    ],
    ids=str,
)
def test_tritons_kernels_pass_in_the_interpreter(interpreted, primitive, dtype, toward_zero):
    from fastclip.backends import triton
    from tests.support.interpreter import products_rounded_toward_zero

    rounding = products_rounded_toward_zero() if toward_zero else contextlib.nullcontext()
    with rounding:
        assert check(triton, primitive, dtype) is None
