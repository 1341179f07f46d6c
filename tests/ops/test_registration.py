"""The operators behave under everything that PyTorch does to operators."""

import numpy as np
import pytest
import torch

import fastclip
from fastclip.benchmarks.cases import Case, make_inputs
from fastclip.ops import schemas
from fastclip.rectangle import BOTH, COLUMNS, ROWS, Diagonal, Interval, Rectangle
from tests.support.inputs import planted_features, square
from tests.support.pairwise import cover_pairs


def leaves(N=9, D=5, dtype=torch.float64):
    image, text = planted_features(square(N, D), "trained", dtype)
    scalars = torch.tensor(8.0, dtype=dtype), torch.tensor(-3.0, dtype=dtype)
    return [x.clone().requires_grad_() for x in (image, text, *scalars)]


def clip(*inputs, **options):
    return fastclip.clip_loss(*inputs[:3], **options)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("loss", [clip, fastclip.siglip_loss])
def test_losses_pass_gradcheck(backend, loss, normalize):
    inputs = leaves()
    used = inputs[:3] if loss is clip else inputs

    def function(*xs):
        return loss(*xs, normalize=normalize, backend=backend, reduction="none")

    assert torch.autograd.gradcheck(function, used)


def test_operators_pass_opcheck(backend):
    *tensors, bias = leaves(dtype=torch.float32)
    square = schemas.flat(Rectangle(*tensors, Diagonal(0), normalize=True))
    settings = backend, None
    torch.library.opcheck(schemas.siglip_sum, (*square, bias, *settings, 0))
    with torch.no_grad():
        row_loss, kept = schemas.siglip_sum(*square, bias, *settings, 0)
    constants = [x.detach() if isinstance(x, torch.Tensor) else x for x in square]
    for wants in [(True, True), (False, True)]:
        torch.library.opcheck(
            schemas.siglip_sum_backward,
            (*constants, bias.detach(), row_loss, kept, *settings, *wants),
        )
    for sides, wants in ((BOTH, ROWS), (COLUMNS, BOTH)):
        torch.library.opcheck(schemas.contrastive_lse, (*square, *sides, *settings, 0, False))
        with torch.no_grad():
            positive, shift, total, kept = schemas.contrastive_lse(
                *square, *sides, *settings, 0, False
            )
        torch.library.opcheck(
            schemas.contrastive_lse_backward,
            (*constants, *sides, positive, total, shift, kept, *settings, *wants),
        )


def test_operators_with_intervals_pass_opcheck(backend):
    image, text, scale, bias = leaves(dtype=torch.float32)
    first = torch.arange(len(image), dtype=torch.int32)
    square = Rectangle(image, text, scale, Diagonal(0), Interval(first - 1, first + 2))
    settings = backend, None
    arguments = (*schemas.flat(square), *BOTH, *settings, 0, False)
    torch.library.opcheck(schemas.contrastive_lse, arguments)
    torch.library.opcheck(schemas.siglip_sum, (*schemas.flat(square), bias, *settings, 0))


def clip_with_options(image, text, scale, backend):
    return fastclip.clip_loss(
        image, text, scale, backend=backend, label_smoothing=0.1, margin=0.2, normalize=True,
        weights=text[:, 0].abs(), extra_text_features=text[:7] + 1.0,
        directions={"image_to_text": 0.3, "text_to_image": 0.9},
    )  # fmt: skip


@pytest.mark.parametrize("loss", [clip, fastclip.siglip_loss])
def test_losses_compile_to_one_graph(backend, loss):
    check_that_it_compiles_to_one_graph(backend, loss)


def test_options_compile_to_one_graph():
    check_that_it_compiles_to_one_graph("chunked", clip_with_options)


def check_that_it_compiles_to_one_graph(backend, loss):
    inputs = leaves(N=40, D=16, dtype=torch.float32)
    used = inputs if loss is fastclip.siglip_loss else inputs[:3]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    actual, expected = compiled(*used, backend=backend), loss(*used, backend=backend)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual, used), torch.autograd.grad(expected, used)
    )


@pytest.mark.parametrize(
    "loss, kind, dynamic",
    cover_pairs(
        [
            lambda *xs: fastclip.clip_loss(*xs[:3]) + fastclip.siglip_loss(*xs, reduction="none"),
            lambda *xs: fastclip.ClipLoss()(*xs) + fastclip.SigLipLoss()(*xs),
        ],
        [float, int, np.float32, np.array],
        [None, True],
    ),
)
def test_numbers_may_vary_in_compiled_code(loss, kind, dynamic):
    """A scale that follows a schedule is a symbol to the compiler from its second value on."""
    torch._dynamo.reset()
    image, text, *_ = leaves(dtype=torch.float32)
    compiled = torch.compile(loss, fullgraph=True, dynamic=dynamic, backend="eager")
    for scale in (10.0, 11.0, 13.0):
        actual = compiled(image, text, kind(scale), kind(-scale))
        torch.testing.assert_close(actual, loss(image, text, scale, -scale))


def test_compiled_code_checks_numbers():
    torch._dynamo.reset()
    image, text, *_ = leaves(dtype=torch.float32)
    compiled = torch.compile(clip, dynamic=True, backend="eager")
    for scale in (0.0, -1.0, float("inf"), float("nan")):
        compiled(image, text, 10.0)
        # The compiler itself compares with nan, and says so.
        with pytest.raises(Exception, match=r"logit_scale must be|Invalid NaN comparison"):
            compiled(image, text, scale)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.compilers
def test_module_compiles_with_the_default_compiler_and_dynamic_batch():
    module = torch.compile(fastclip.ClipLoss(), fullgraph=True, dynamic=True)
    for N in (40, 56):
        used = leaves(N=N, D=16, dtype=torch.float32)[:3]
        actual, expected = module(*used), fastclip.ClipLoss()(*used)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(
            torch.autograd.grad(actual, used), torch.autograd.grad(expected, used)
        )


@pytest.mark.parametrize("loss", [clip, fastclip.siglip_loss])
def test_second_derivative_raises_instead_of_being_zero(backend, loss):
    inputs = leaves()
    used = inputs[:3] if loss is clip else inputs
    value = loss(*used, backend=backend)
    grads = torch.autograd.grad(value, used, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(sum(g.sum() for g in grads), used)


def test_fake_tensors_pass_through_the_public_function(backend):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        image, text = torch.empty(33, 8, requires_grad=True), torch.empty(33, 8)
        loss = fastclip.clip_loss(image, text, 10.0, backend=backend)
        assert loss.shape == () and loss.dtype == torch.float32
        assert torch.autograd.grad(loss, image)[0].shape == (33, 8)


def test_losses_run_in_the_backward_of_a_worker_thread(backend):
    """DataParallel and hooks call from other threads; scratch memory must not be per thread id."""
    from concurrent.futures import ThreadPoolExecutor

    def work(seed):
        image, text, scale = make_inputs(Case(600, 16, logit_scale=10.0), seed)
        image.requires_grad_()
        loss = fastclip.clip_loss(image, text, scale, backend=backend)
        return loss.detach(), torch.autograd.grad(loss, image)[0]

    expected = [work(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(work, range(4)))
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9)
