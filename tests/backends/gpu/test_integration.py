"""GPU backends under what PyTorch does to operators, and on a device if there is one."""

import functools

import pytest
import torch

import fastclip
from fastclip.benchmarks.cases import Case, make_inputs
from fastclip.benchmarks.gpu import checks, small_step
from fastclip.ops import schemas
from fastclip.rectangle import BOTH, COLUMNS, ROWS, Diagonal, Rectangle

pytestmark = [
    pytest.mark.rehearsal,
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]

UTILS = ("test_schema", "test_faketensor", "test_autograd_registration",
         "test_aot_dispatch_dynamic")  # fmt: skip
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def leaves(gpu, N=20, D=8):
    image, text, scale = make_inputs(Case(N, D, logit_scale=8.0, data="trained"))
    inputs = image, text, scale, torch.tensor(-3.0)
    return [x.to(gpu.device).requires_grad_() for x in inputs]


def clip(*inputs, **options):
    return fastclip.clip_loss(*inputs[:3], **options)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [clip, fastclip.siglip_loss])
def test_losses_compile_to_one_graph(gpu, loss):
    inputs = leaves(gpu)
    used = inputs[:3] if loss is clip else inputs
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    actual, expected = (f(*used, backend=gpu.backend) for f in (compiled, loss))
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual, used), torch.autograd.grad(expected, used)
    )


@pytest.mark.slow
def test_operators_pass_opcheck(gpu):
    # Compiling is the same for all kernels: not with those that take long here.
    utils = UTILS[:3] if gpu.backend == "triton" and gpu.device.type == "cpu" else UTILS
    opcheck = functools.partial(torch.library.opcheck, test_utils=utils)
    *tensors, bias = leaves(gpu)
    square = schemas.flat(Rectangle(*tensors, Diagonal(0), normalize=True))
    settings = gpu.backend, None
    for sides, kept_rows, needs_maximum in ((BOTH, 7, True), (ROWS, 0, False)):
        arguments = (*square, *sides, *settings, kept_rows, needs_maximum)
        opcheck(schemas.contrastive_lse, arguments)
    opcheck(schemas.siglip_total, (*square, bias, *settings, True, True))
    detached = [x.detach() for x in (*tensors, bias)]
    square = schemas.flat(Rectangle(*detached[:3], Diagonal(0), normalize=True))
    _, *gradients = schemas.siglip_total(*square, detached[3], *settings, True, False)
    grad = torch.ones((), device=gpu.device)
    opcheck(schemas.siglip_total_backward, (grad, *detached, *gradients))
    for sides, wants in ((BOTH, ROWS), (COLUMNS, BOTH)):
        statistics = schemas.contrastive_lse(*square, *sides, *settings, 7, False)
        positive, shift, total, kept = statistics
        opcheck(
            schemas.contrastive_lse_backward,
            (*square, *sides, positive, total, shift, kept, *settings, *wants),
        )


def test_autocast_does_not_reach_inside(gpu):
    image, text, scale, _ = leaves(gpu, N=40, D=24)
    expected = fastclip.clip_loss(image, text, scale, backend=gpu.backend)
    with torch.autocast(gpu.device.type, torch.bfloat16):
        assert torch.equal(fastclip.clip_loss(image, text, scale, backend=gpu.backend), expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU finds out more")
def test_where_it_is_emulated_it_is_used_by_name_only(gpu):
    features = torch.ones(2, 2, device=gpu.device)
    assert "run only if the backend is named" in fastclip.explain_backends(features)[gpu.backend]
    assert gpu.backend in fastclip.available_backends(features)
    assert fastclip.ops.dispatch.resolve_backend(gpu.backend, features) == gpu.backend
    assert fastclip.ops.dispatch.resolve_backend("auto", features) != gpu.backend


def test_the_step_that_the_sanitizer_watches_runs(gpu, monkeypatch):
    if gpu.device.type == "cpu":  # the larger shape's panels and blocks are test_contrastive's
        monkeypatch.setattr(small_step, "SHAPES", small_step.SHAPES[1:])
    small_step.main(gpu.backend, gpu.device.type)


CASE = Case(300, 72, torch.float32, 100.0, "cone", normalize=True, device="cuda")


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("objective, logit_scale", [("clip", 100.0), ("siglip", 10.0)])
def test_errors_on_a_gpu(gpu, dtype, objective, logit_scale):
    for data in ("random", "trained", "cone", "adversarial"):
        case = Case(1000, 72, dtype, logit_scale, data, normalize=True, device="cuda")
        assert "passed" not in checks.errors(gpu.backend, objective, case)


@needs_gpu
def test_nothing_waits_for_the_host_and_a_graph_captures_it(gpu):
    checks.graph(gpu.backend, CASE)


@needs_gpu
def test_other_streams_and_devices(gpu):
    checks.other_stream(gpu.backend, CASE)
    checks.other_device(gpu.backend, CASE)


@needs_gpu
def test_offsets_beyond_31_bits(gpu):
    checks.offsets_beyond_31_bits(gpu.backend)


@needs_gpu
@pytest.mark.parametrize("D", [512, 768, 1024])
def test_memory_at_32768(gpu, D):
    inputs = [
        x.requires_grad_() for x in make_inputs(Case(32_768, D, torch.bfloat16, device="cuda"))
    ]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss = fastclip.clip_loss(*inputs, backend=gpu.backend, normalize=True)
    grads = torch.autograd.grad(loss, inputs)
    rise = torch.cuda.max_memory_allocated() - before
    assert rise - sum(x.nbytes for x in grads) <= 256 << 20
