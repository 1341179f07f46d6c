"""Losses of several prefixes in one pass, against dense logits and each prefix by itself."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import fastclip
from fastclip.ops import dispatch, schemas
from fastclip.rectangle import BOTH, MAIN_DIAGONAL, Rectangle
from tests.support.dense import (
    PROBLEMS,
    check_exact,
    check_float32,
    unit,
    value_and_gradients,
    views,
)

pytestmark = pytest.mark.skipif(
    dispatch.load_backend("cpu").unsupported("cpu", torch.float32) is not None,
    reason="the native module is not built",
)
KEEPS, KEEPS_NOTHING = None, 0  # workspaces


@pytest.fixture(autouse=True)
def no_loop(monkeypatch):
    monkeypatch.setattr("fastclip.losses.matryoshka.clip_loss", None)


def losses(dims, **options):
    """A function whose value is the weighted sum of the losses at `dims` on `cpu`."""

    def loss(*inputs):
        weights = tuple(range(1, len(dims) + 1))
        return fastclip.matryoshka_clip_loss(*inputs, dims, weights, backend="cpu", **options)

    return loss


def dense(dims):
    def loss(images, texts, scale):
        own = torch.arange(len(images))
        total = 0.0
        for weight, dim in enumerate(dims, 1):
            logits = scale * unit(images[:, :dim]) @ unit(texts[:, :dim]).T
            of_sides = (torch.nn.functional.cross_entropy(x, own) for x in (logits, logits.T))
            total = total + weight * sum(of_sides) / 2
        return total

    return loss


# A few rows; several tiles; several panels of the backward, with a last tile and panel cut short.
@pytest.mark.parametrize("workspace", [KEEPS, KEEPS_NOTHING, 300_000], ids=["kept", "not", "some"])
@pytest.mark.parametrize(
    "N, dims, problem",
    [(37, (24, 7, 16), PROBLEMS[3]), (301, (7, 17), PROBLEMS[1]), (1101, (5, 11), PROBLEMS[0])],
    ids=str,
)
def test_value_and_gradients_are_those_of_dense_logits(N, dims, problem, workspace):
    kind, scale = problem
    features, loss = views(2, N, max(dims), kind), losses(dims, workspace=workspace)
    check_exact(loss, dense(dims), features, scale)
    if N < 1000:
        check_float32(loss, dense(dims), features, scale)


@pytest.mark.parametrize(
    "dims, options",
    [((24,), {}), ((24, 2), {}), ((24, 16), dict(margin=0.1)),
     ((24, 16), dict(directions=["image_to_text"])), ((24, 16), dict(ids=torch.arange(5))),
     ((24, 16), dict(extra_text_features=torch.ones(2, 24, dtype=torch.float64)))],
    ids=str,
)  # fmt: skip
def test_a_loop_is_taken_where_one_pass_has_no_advantage_or_knows_no_option(dims, options):
    with pytest.raises(TypeError, match="not callable"):
        fastclip.matryoshka_clip_loss(*views(2, 5, 24), 9.0, dims, backend="cpu", **options)


@pytest.mark.parametrize(
    "options, message",
    [(dict(schedule="rings"), "schedule must be one of"), (dict(workspace=-1), "workspace must"),
     (dict(backend="cpus"), "backend must be 'auto' or one of")],
    ids=str,
)  # fmt: skip
def test_options_are_refused_as_a_loop_refuses_them(options, message):
    with pytest.raises(ValueError, match=message):
        fastclip.matryoshka_clip_loss(*views(2, 5, 24), 9.0, (24, 16), **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_prefixes_of_any_norm_are_normalised(dtype):
    """Rows that begin with zeros, or whose prefixes differ by powers of ten; zero rows; norms whose
    squares are beyond the range of the dtype."""
    images, texts = views(2, 40, 12)
    images[::4, :3] = 0.0
    images[1::4, :3] *= 1e-15
    images[2] = 0.0
    texts[3, :6] = 0.0
    texts[5::7, :6] *= 1e-9
    texts[8], images[8] = texts[8] * 1e25, images[8] * 1e-20
    images[9], images[10] = images[9] * 1e-14, images[10] * 1e28
    features = [images, texts]
    if dtype == torch.float64:
        check = value_and_gradients(losses((3, 6, 12)), features, 20.0, dtype)
    else:
        check = value_and_gradients(losses((3, 6, 12)), [x.float() for x in features], 20.0, dtype)
        features = [x.float().double() for x in features]
    expected = value_and_gradients(dense((3, 6, 12)), features, 20.0, torch.float64)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-4
    torch.testing.assert_close(check[0].double(), expected[0], rtol=tolerance, atol=tolerance)
    for found, exact in zip(check[1:3], expected[1:3], strict=True):
        # Block by block and row by row: their gradients are as far apart as their norms are.
        for block in (slice(0, 3), slice(3, 6), slice(6, 12)):
            error = (found[:, block].double() - exact[:, block]).norm(dim=1)
            assert (error <= tolerance * exact[:, block].norm(dim=1) + 1e-35).all()


def test_a_block_keeps_its_digits_where_shorter_prefixes_lose_much_more():
    """The last block has the gradient of a loss of 1e-33, the first one that of a loss of 3."""
    N = 16
    own = 1e3 * torch.eye(N)
    images, texts = (torch.cat([x.float(), own], 1) for x in views(2, N, 8))
    dims = 8, 8 + N
    found = value_and_gradients(losses(dims), [images, texts], 78.0, torch.float32)
    exact = value_and_gradients(dense(dims), [images.double(), texts.double()], 78.0,
                                torch.float64)  # fmt: skip
    for one, other in zip(found[1:3], exact[1:3], strict=True):
        assert 0 < other[:, 8:].norm() < 1e-30
        torch.testing.assert_close(one[:, 8:].double(), other[:, 8:], rtol=1e-3, atol=1e-39)
        torch.testing.assert_close(one[:, :8].double(), other[:, :8], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_the_loss_at_one_dim_has_the_gradient_of_a_loss_of_its_own(chosen):
    dims = (16, 7, 24)
    images, texts = (x.requires_grad_() for x in views(2, 37, 30))
    scale = torch.tensor(11.0, dtype=torch.float64, requires_grad=True)
    inputs = images, texts, scale
    _, of_dims = fastclip.matryoshka_clip_loss(*inputs, dims, backend="cpu", return_dims=True)
    dim = dims[chosen]
    alone = fastclip.clip_loss(images[:, :dim], texts[:, :dim], scale, normalize=True)
    assert tuple(of_dims) == dims
    torch.testing.assert_close(of_dims[dim], alone, rtol=1e-12, atol=0)
    found = torch.autograd.grad(of_dims[dim], inputs)
    torch.testing.assert_close(found, torch.autograd.grad(alone, inputs), rtol=1e-10, atol=1e-14)
    assert not found[0][:, dim:].any()


@pytest.mark.parametrize("M, N", [(2100, 30), (30, 2100)])
def test_statistics_of_a_rectangle_of_several_panels(M, N):
    rows, cols = views(1, M, 9)[0], views(1, N, 9)[0]
    scale, dims = torch.tensor(20.0, dtype=torch.float64), [2, 5, 9]
    positive, maximum, total, _ = schemas.prefix_lse(rows, cols, scale, dims, "cpu", 0)
    for k, dim in enumerate(dims):
        rectangle = Rectangle(rows[:, :dim], cols[:, :dim], scale, MAIN_DIAGONAL, normalize=True)
        expected = schemas.contrastive_lse(
            *schemas.flat(rectangle), *BOTH, "reference", None, 0, True
        )
        for one, other in zip((positive, maximum, total), expected[:3], strict=True):
            torch.testing.assert_close(one[k], other, rtol=1e-10, atol=1e-10)


def operator_inputs(N=9, D=5):
    images, texts = (x.float().requires_grad_() for x in views(2, N, D))
    return images, texts, torch.tensor(8.0, requires_grad=True), [2, D]


@pytest.mark.parametrize("kept_rows", [0, 4])
def test_operators_pass_opcheck(kept_rows):
    inputs = operator_inputs()
    torch.library.opcheck(schemas.prefix_lse, (*inputs, "cpu", kept_rows))
    constants = [x.detach() if isinstance(x, torch.Tensor) else x for x in inputs]
    positive, maximum, total, kept = schemas.prefix_lse(*constants, "cpu", kept_rows)
    for wants in ((True, True), (False, True), (True, False), (False, False)):
        given = positive, total, positive, maximum, kept
        torch.library.opcheck(schemas.prefix_lse_backward, (*constants, *given, "cpu", *wants))


def test_a_backend_without_it_says_so():
    with pytest.raises(RuntimeError, match="'chunked' cannot run: it has no prefix_lse"):
        schemas.prefix_lse(*operator_inputs(), "chunked", 0)


def test_second_derivatives_are_refused():
    images, texts, scale, dims = operator_inputs()
    value = losses(dims)(images, texts, scale)
    (gradient,) = torch.autograd.grad(value, images, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(gradient.sum(), images)


def test_gradients_of_a_batch_are_those_of_its_samples():
    features = views(2, 6, 8)
    batch = [torch.stack([x, 2 * x.flip(1), x + 1]) for x in features]

    def gradient(images, texts):
        return torch.func.grad(lambda *x: losses((4, 8))(*x, 9.0), (0, 1))(images, texts)

    found = torch.func.vmap(gradient)(*batch)
    expected = [gradient(*x) for x in zip(*batch, strict=True)]
    torch.testing.assert_close(found, tuple(torch.stack(x) for x in zip(*expected, strict=True)))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_forward_mode_is_refused():
    images, texts, scale, dims = operator_inputs()
    with pytest.raises(RuntimeError, match="prefix_lse has no forward-mode derivative"):
        torch.func.jvp(lambda x: losses(dims)(x, texts, scale), (images,), (images,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_features_are_converted_a_panel_at_a_time(dtype):
    features = [x.to(dtype) for x in views(2, 700, 16)]
    exact = value_and_gradients(dense((8, 16)), features, 14.3, torch.float64)
    leaves = [x.requires_grad_() for x in features]
    loss = losses((8, 16))(*leaves, 14.3)
    torch.testing.assert_close(loss.double(), exact[0], rtol=1e-6, atol=0)
    for one, other in zip(torch.autograd.grad(loss, leaves), exact[1:], strict=False):
        assert one.dtype == dtype
        # Of one rounding; gradients of 1e-5 are subnormal in float16.
        error = (one.double() - other).norm() / other.norm()
        assert error < (1.0 if dtype == torch.bfloat16 else 8.0) * torch.finfo(dtype).eps


def test_it_compiles_to_one_graph_with_the_same_values():
    images, texts, scale, dims = operator_inputs()
    compiled = torch.compile(losses(dims), fullgraph=True, backend="aot_eager")
    found, expected = compiled(images, texts, scale), losses(dims)(images, texts, scale)
    torch.testing.assert_close(found, expected)
    leaves = images, texts, scale
    torch.testing.assert_close(torch.autograd.grad(found, leaves),
                               torch.autograd.grad(expected, leaves))  # fmt: skip


def test_no_allocation_of_size_n_by_n():
    """Of 4,096 pairs, whose logits at one dim are 64 MiB; the workspace is for all of them."""
    N, dims = 4096, (4, 2, 3)
    leaves = [x.float().requires_grad_() for x in views(2, N, 4)]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        torch.autograd.grad(losses(dims)(*leaves, 9.0), leaves)
    sizes = [
        x.nbytes() for x in profiler.profiler.kineto_results.events() if x.name() == "[memory]"
    ]
    assert len(sizes) > 10
    assert max(sizes) < 16 << 20


def test_same_bits_at_every_run_and_whatever_is_kept():
    features = views(2, 301, 16)
    runs = [value_and_gradients(losses((8, 16), workspace=x), features, 50.0, torch.float32)
            for x in (KEEPS, KEEPS, KEEPS_NOTHING)]  # fmt: skip
    for run in runs[1:]:
        assert all(torch.equal(one, other) for one, other in zip(run, runs[0], strict=True))
