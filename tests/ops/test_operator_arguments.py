"""Called by its name, an operator refuses what it cannot take, and says what that is."""

import re

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import fastclip
from fastclip.backends import cuda
from fastclip.ops import dispatch
from tests.support.operator_calls import FEATURES, OPERATORS, N, arguments, wrong_values

PUBLIC = [name for name in OPERATORS if name != "clip_loss"]
NATIVE = [name for name in OPERATORS if name != "siglip_total_backward"]
needs_native = pytest.mark.skipif(
    dispatch.load_backend("cpu").unsupported("cpu", torch.float32) is not None,
    reason="the native module is not built",
)


def refusal(operator: str, name: str) -> str:
    # Features are compared with each other, and everything else with them.
    named = "(row|col)_features|row_features and col_features" if name in FEATURES else name
    return rf"{operator}: ({named}) must .*, got "


def refused(overload, backend: str) -> int:
    """How many calls with one wrong argument each are refused, by the operator's and its name."""
    right = arguments(overload, backend)
    overload(*right.values())
    operator, count = overload.name().partition("::")[2], 0
    for name in right:
        if name == "workspace" and backend == "cpu":
            continue  # it keeps rows, and needs no bytes
        for value in wrong_values(name, right[name]):
            with pytest.raises(ValueError, match=refusal(operator, name)) as error:
                overload(*(right | {name: value}).values())
            assert "\n" not in str(error.value)
            count += 1
    return count


@pytest.mark.parametrize("operator", PUBLIC)
def test_wrong_arguments_are_refused_by_name(backend, operator):
    if operator.startswith("siglip_total") and not dispatch.has_one_pass_siglip(backend):
        pytest.skip(f"{backend} has no such operator")
    if operator.startswith("prefix") and not dispatch.has_prefixes(backend):
        pytest.skip(f"{backend} has no such operator")
    assert refused(getattr(torch.ops.fastclip, operator).default, backend) > 20


@needs_native
@pytest.mark.parametrize("operator", NATIVE)
def test_the_native_operators_refuse_them_too(operator):
    assert refused(getattr(torch.ops.fastclip_native, operator).default, "cpu") > 20


@pytest.mark.parametrize("operator", PUBLIC)
def test_tensors_without_data_are_refused_alike(operator):
    """What the compiler traces fails there, and not when it runs."""
    overload = getattr(torch.ops.fastclip, operator).default
    right = arguments(overload, "reference")
    with FakeTensorMode() as mode:
        fakes = {
            name: mode.from_tensor(x) if isinstance(x, torch.Tensor) else x
            for name, x in right.items()
        }
        overload(*fakes.values())
        for name, fake in fakes.items():
            if not isinstance(fake, torch.Tensor):
                continue
            with pytest.raises(ValueError, match=refusal(operator, name)):
                overload(*(fakes | {name: fake.double()}).values())


def test_backends_that_are_none_or_cannot_run_are_refused(backend):
    overload = torch.ops.fastclip.contrastive_lse.default
    right = arguments(overload, backend)
    with pytest.raises(ValueError, match=r"backend must be one of .*, got 'auto'"):
        overload(*(right | {"backend": "auto"}).values())
    right |= {"excluded_begin": None, "excluded_end": None}
    with pytest.raises(RuntimeError, match="backend 'triton' cannot run: it needs features on"):
        overload(*(right | {"backend": "triton"}).values())
    if not dispatch.has_one_pass_siglip(backend):
        total = torch.ops.fastclip.siglip_total.default
        with pytest.raises(RuntimeError, match=f"backend '{backend}' cannot run: it has no siglip"):
            total(*arguments(total, backend).values())


@needs_native
def test_a_square_is_asked_for():
    clip_loss = torch.ops.fastclip_native.clip_loss
    with pytest.raises(ValueError, match=r"clip_loss: .* must have equally many rows, got 9 and 3"):
        clip_loss(torch.ones(9, 2), torch.ones(3, 2), torch.tensor(1.0), True, False, 0)


@needs_native
@pytest.mark.parametrize("name", ["features", "logit_scale", "gradient"])
def test_memory_that_was_freed_is_not_read(name):
    """As FSDP frees parameters."""
    features, scale = torch.ones(N, 4, requires_grad=True), torch.tensor(2.0)
    loss, *_ = torch.ops.fastclip_native.clip_loss(features, features, scale, True, False, N)
    freed = {"features": features, "logit_scale": scale, "gradient": torch.ones(())}[name]
    freed.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match=r"must be .*, got float32 .* without memory"):
        torch.autograd.grad(loss, features, freed if name == "gradient" else None)


@needs_native
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_hooks_may_not_change_what_the_loss_has_saved(reduction):
    """Its backward, in C++, reads each saved tensor as it was saved."""
    features = torch.nn.functional.normalize(torch.randn(N, 4), dim=1).requires_grad_()

    def gradient(unpack):
        with torch.autograd.graph.saved_tensors_hooks(lambda x: x, unpack):
            loss = fastclip.clip_loss(features, features, 9.0, backend="cpu", reduction=reduction)
        return torch.autograd.grad(loss.sum(), features)[0]

    expected = gradient(lambda x: x)
    for shorter in (
        lambda x: x[:1] if x.dim() == 1 else x,
        lambda x: x.half() if x.dim() == 1 else x,
        lambda x: x[:, :-1] if x.dtype == torch.uint8 else x,
        lambda x: x[:-1] if x.dim() == 2 and x.is_floating_point() else x,
    ):
        with pytest.raises(ValueError, match=r"(clip_loss|contrastive_lse_backward): .* must be"):
            gradient(shorter)
    assert torch.equal(gradient(lambda x: x.clone()), expected)


BY_NAME = """
import torch
import fastclip

x, scale = torch.eye(3), torch.tensor(2.0)
square = x, x, scale, None, None, 0, False
operators = torch.ops.fastclip
positive, *_ = operators.contrastive_lse(*square, True, True, "cpu", None, 0, False)
row_loss, _ = operators.siglip_sum(*square, scale, "cpu", None, 0)
of_prefixes, *_ = operators.prefix_lse(*square[:3], [2, 3], "cpu", 0)
print(positive.tolist(), row_loss.shape, of_prefixes.tolist(), flush=True)
"""
ASKED = "import fastclip; fastclip.available_backends(); fastclip.explain_backends()"


@needs_native
@pytest.mark.parametrize("asked", ["", ASKED], ids=["", "asked"])
def test_an_operator_works_in_a_fresh_process_whether_or_not_somebody_asked(fresh_process, asked):
    done = fresh_process.run(asked + BY_NAME)
    of_prefixes = "[[2.0, 2.0, 0.0], [2.0, 2.0, 2.0]]"
    assert done.stdout == f"[2.0, 2.0, 2.0] torch.Size([3]) {of_prefixes}\n", done.stderr


@needs_native
def test_a_question_loads_nothing(monkeypatch):
    """The module was loaded when the backend was."""
    cpu = dispatch.load_backend("cpu")
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"imports {name}"))
    monkeypatch.setattr(torch.ops, "load_library", lambda path: pytest.fail(f"loads {path}"))
    assert cpu.unsupported("cpu", torch.float32) is None
    cuda.unsupported("cuda", torch.float32)
    cuda.unsupported("cpu", torch.float32)


DANGEROUS = """
import torch
import fastclip

def attempt(operator, *args):
    try:
        print("ran", len(operator(*args)))
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[0])

rows, cols, scale = torch.randn(5, 3), torch.randn(4, 3), torch.tensor(2.0)
which = None, None, 0, False
both, settings = (True, True), ("cpu", None)
public = torch.ops.fastclip
attempt(public.contrastive_lse, rows, cols, scale, *which, *both, *settings, 0, False)
attempt(public.siglip_sum, rows, cols, scale, *which, scale, *settings, 0)
attempt(public.contrastive_lse, rows[:0], cols, scale, *which, *both, *settings, 0, False)
native = torch.ops.fastclip_native
attempt(native.clip_loss, torch.randn(1000, 64), torch.randn(3, 64), scale, True, False, 0)
attempt(native.siglip_sum, rows, cols[:0], scale, *which, scale, 0)
kept = torch.zeros(4096, 1, dtype=torch.uint8)
features = torch.randn(4096, 8)
vectors = torch.ones(4096), torch.ones(8192)
square = features, features, scale, *which
attempt(native.contrastive_lse_backward, *square, *vectors, vectors[1], kept, True, True)
attempt(native.contrastive_lse_backward, *square, torch.ones(1), vectors[1], vectors[1], kept[:0],
        True, True)
short = torch.zeros(1, dtype=torch.int32)
attempt(native.contrastive_lse, features, features, scale, short, short, 0, False, 0)
"""


@needs_native
def test_a_process_survives_what_it_calls(fresh_process):
    """And an operator loads the native module, whoever calls it first."""
    done = fresh_process.run(DANGEROUS)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[:2] == ["ran 4", "ran 2"]
    refusals = (
        r"contrastive_lse: row_features must have sizes from 1 to 2\^30, got float32 \[0, 3\]",
        "clip_loss: row_features and col_features must have equally many rows, got 1000 and 3",
        r"siglip_sum: col_features must have sizes from 1 to 2\^30, got float32 \[0, 3\]",
        r"contrastive_lse_backward: kept must be contiguous uint8 \[at most 4096, 16384\] on cpu",
        r"contrastive_lse_backward: grad_positive must be contiguous float32 \[4096\] on cpu, got",
        r"contrastive_lse: excluded_begin must be contiguous int32 \[4096\] on cpu, got int32",
    )
    assert len(said) == 2 + len(refusals)
    for line, refusal in zip(said[2:], refusals, strict=True):
        assert re.match(f"ValueError {refusal}", line), line
