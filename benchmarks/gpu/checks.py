"""The checks of a backend on a GPU: each returns its findings, or raises if something is wrong.

errors        loss and gradients against float64. With 16-bit features, no gradient may be further
              off than the gradient of eager code under autocast; with float32 features, at most
              three times as far as eager float32. An ulp of the dtype is allowed in addition
blocks        the same with such a small workspace that the backward goes over several blocks of G,
              as for a large batch, and nothing is kept
bits          two runs are equal bit for bit
kept          the same with a small workspace, which keeps no logits and means several blocks of
              their gradient, and with one that keeps all of them
intervals     statistics and gradients where rows leave out columns, against float64, with and
              without kept logits; skipped for kernels that take no intervals
statistics    top-1 accuracies and the hardest negative equal the reference's
graph         a CUDA graph captures forward and backward, which fails if anything waits for the
              host; its replay on other data equals a call
stream        a call on a separate stream equals a call on the default stream
devices       features on the last GPU while the first is current
offsets       N x D and kept rows x N beyond 2^31

`correctness.py`, `first.py` and `verify/measure.py` choose which checks run on which data.
"""

import dataclasses
import functools

import torch
from torch import Tensor

import fastclip
from fastclip import reference
from fastclip.benchmarks import accuracy
from fastclip.benchmarks.cases import Case, Shape, make_features
from fastclip.benchmarks.ours import all_kept_bytes, build, small_block_bytes
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.providers import find_provider
from fastclip.benchmarks.step import Outcome, Step, leaves
from fastclip.ops import dispatch
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call, load_backend
from fastclip.rectangle import Diagonal, Interval, Rectangle

FACTOR = 3.0
BIG = 1 << 31


def errors(backend: str, objective: str, case: Case) -> dict:
    return _checked(find_provider(objective, f"fastclip/{backend}"), case)


def blocks(backend: str, objective: str, case: Case) -> dict:
    loss = build(objective, backend, small_block_bytes)
    return _checked(Provider(f"{backend}, small blocks", objective, loss, normalizes=True), case)


def _checked(provider: Provider, case: Case) -> dict:
    objective = provider.objective
    inputs = leaves(objective, case)
    truth = accuracy.exact(objective, inputs, case.normalize)
    ours = _errors(provider, case, inputs, truth)
    return _within_budget(objective, case, inputs, truth, ours)


def kept(backend: str, case: Case) -> dict:
    inputs = leaves("clip", case)
    truth = accuracy.exact("clip", inputs, case.normalize)
    found = {}
    ways = {"no logits kept": small_block_bytes, "all logits kept": all_kept_bytes}
    for name, workspace in ways.items():
        loss = build("clip", backend, workspace)
        provider = Provider(f"{backend}, {name}", "clip", loss, normalizes=True)
        ours = _errors(provider, case, inputs, truth)
        found[name] = _within_budget("clip", case, inputs, truth, ours)
        if "passed" in found[name]:
            reason = f"{name}: {found[name]['reason']}"
            return {"passed": False, "reason": reason, "errors": ours}
    return {name: of["errors"] for name, of in found.items()}


def _within_budget(
    objective: str, case: Case, inputs: tuple, truth: Outcome, ours: dict[str, float]
) -> dict:
    """Return our errors and eager code's, which are the budget, and failures beyond it."""
    eager_case = dataclasses.replace(case, autocast=case.dtype != torch.float32)
    eager = _errors(eager_code(objective), eager_case, inputs, truth)
    factor = FACTOR if case.dtype == torch.float32 else 1.0
    failures = []
    for name, error in ours.items():
        ulp = torch.finfo(case.dtype if name.endswith("features") else torch.float32).eps
        # In eager code, the two scalars, whose terms cancel, may be right by luck.
        slack = 1e-3 if name in ("loss", "logit_scale", "logit_bias") else 0.0
        budget = factor * eager[name] + FACTOR * ulp + slack
        if name != "loss_absolute" and not error <= budget:
            failures.append(f"{name}: error {error:.2e} above its budget {budget:.2e}")
    found = {"errors": ours, "eager": eager}
    return found | {"passed": False, "reason": ", ".join(failures)} if failures else found


@functools.cache
def eager_code(objective: str) -> Provider:
    """Return open_clip's formula, the usual eager code."""
    import torch.nn.functional as F

    def clip(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
        logits = logit_scale * image_features @ text_features.T
        labels = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2

    def siglip(
        image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor
    ) -> Tensor:
        logits = logit_scale * image_features @ text_features.T + logit_bias
        signs = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1
        return -F.logsigmoid(signs * logits).sum() / len(logits)

    loss = {"clip": clip, "siglip": siglip}[objective]
    return Provider("eager", objective, lambda: loss)


def _errors(provider: Provider, case: Case, inputs: tuple, truth: Outcome) -> dict[str, float]:
    return accuracy.errors(Step(provider, case, inputs)(), truth)


def _step(backend: str, case: Case) -> Step:
    return Step(find_provider("clip", f"fastclip/{backend}"), case)


def _assert_equal(a: Outcome, b: Outcome) -> None:
    for x, y in zip((a.loss, *a.gradients), (b.loss, *b.gradients), strict=True):
        if not torch.equal(x.cpu(), y.cpu()):
            distance = (x.cpu().double() - y.cpu().double()).abs().max().item()
            raise AssertionError(f"differ by up to {distance:.2e}")


def same_bits(backend: str, case: Case) -> None:
    step = _step(backend, case)
    _assert_equal(step(), step())


def statistics(backend: str, case: Case) -> None:
    inputs = [x.detach() for x in leaves("clip", case)]
    options = {"normalize": case.normalize, "return_stats": True}
    _, stats = fastclip.clip_loss(*inputs, backend=backend, **options)
    exact = [x.double() for x in inputs]
    _, expected = fastclip.clip_loss(*exact, backend="reference", **options)
    for name, value, true in zip(stats._fields, stats, expected, strict=True):
        if not abs(value.item() - true.item()) <= 0.01 * max(1.0, abs(true.item())):
            raise AssertionError(f"{name} is {value.item()}, not {true.item()}")


def intervals(backend: str, case: Case) -> dict:
    """Check intervals near the pair and anywhere, unsorted; one row leaves out every column."""
    if not hasattr(load_backend(backend), "TAKES_INTERVALS"):
        return {"skipped": f"{backend} does not take intervals"}
    inputs = leaves("clip", case)
    row = torch.arange(case.N, dtype=torch.int32, device=case.device)
    begin = torch.where(row % 2 == 0, row - row % 8, 7 * row % case.N)
    end = begin + case.N // 8
    begin[1], end[1] = 0, case.N
    rectangle = Rectangle(*inputs, Diagonal(0), Interval(begin, end), case.normalize)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    true = reference.statistics(
        rectangle._replace(**dict(zip(Rectangle._fields, exact, strict=False)))
    )
    true_lse = torch.cat([true.rows, true.columns])
    there = true_lse.isfinite()
    true_grads = torch.autograd.grad(true_lse[there].sum() - true.positive.sum(), exact[:2])
    digits = 1e-5 if case.dtype == torch.float32 else 1e-3
    found = {}
    most = dispatch.kept_rows(backend, "contrastive_lse", case.N, case.N, case.dtype, 1 << 50)
    for kept_rows in sorted({0, most}):
        call = Call(backend, kept_rows=kept_rows)
        positive, shift, total, _ = contrastive_lse(rectangle, call)
        grads = torch.autograd.grad(total.log().sum() - positive.sum(), inputs[:2])
        lse = shift.double() + total.double().log()
        errors = {"lse": (lse - true_lse)[there].abs().max().item() / case.logit_scale}
        for name, grad, truth in zip(("rows", "columns"), grads, true_grads, strict=True):
            errors[f"gradient of {name}"] = ((grad - truth).norm() / truth.norm()).item() / 10
        found |= {f"{name}, {kept_rows} rows kept": error for name, error in errors.items()}
        empty = (shift[~there] == float("-inf")).all() and (total[~there] == 1).all()
        if not (empty and all(error < digits for error in errors.values())):
            raise AssertionError(str(found))
    return found


def graph(backend: str, case: Case) -> None:
    """Capture a graph with one batch and replay it with another."""
    step = _step(backend, case)
    other = leaves("clip", case, seed=1)
    expected = Step(find_provider("clip", f"fastclip/{backend}"), case, other)()
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        outcome = step()
    with torch.no_grad():
        for there, here in zip(step.inputs, other, strict=True):
            there.copy_(here)
    captured.replay()
    torch.cuda.synchronize()
    _assert_equal(outcome, expected)


def other_stream(backend: str, case: Case) -> None:
    step = _step(backend, case)
    expected = step()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        actual = step()
    stream.synchronize()
    _assert_equal(actual, expected)


def other_device(backend: str, case: Case) -> dict | None:
    if torch.cuda.device_count() < 2:
        return {"skipped": "one GPU only"}
    expected = _step(backend, case)()
    last = f"cuda:{torch.cuda.device_count() - 1}"
    inputs = tuple(x.detach().to(last).requires_grad_() for x in leaves("clip", case))
    _assert_equal(Step(find_provider("clip", f"fastclip/{backend}"), case, inputs)(), expected)
    return None


def offsets_beyond_31_bits(backend: str) -> dict:
    """Check the last columns of a strip so long that N D and kept rows x N exceed 2^31."""
    M, D = 640, 512
    N = BIG // D + 5000
    shape = Shape("strip", M, N, D, Diagonal(N - M))
    rows, cols = make_features(shape, "random", torch.bfloat16, 0, "cuda")
    scale = torch.tensor(20.0, device="cuda")
    leaves_ = [x.requires_grad_() for x in (rows, cols)]
    found = {}
    strip = Rectangle(*leaves_, scale, shape.positives)
    for kept_rows in (0, M):
        call = Call(backend, kept_rows=kept_rows)
        positive, shift, total, _ = contrastive_lse(strip, call)
        weights = torch.zeros_like(total)
        weights[-100:] = 1.0
        lse = (shift.double() + total.double().log())[-100:]
        tail = cols[-100:].detach().double()
        logits = 20.0 * rows.detach().double() @ tail.T
        pairs = torch.arange(M, device="cuda")[:, None] + N - M
        positives = pairs == torch.arange(N - 100, N, device="cuda")
        true = logits.masked_fill(positives, float("-inf")).logsumexp(0)
        found[f"lse, {kept_rows} rows kept"] = (lse - true).abs().max().item()
        (grad,) = torch.autograd.grad((weights * total.log()).sum() + positive.sum(), leaves_[1])
        G = (logits - true).exp().masked_fill(positives, 1.0)
        true_grad = 20.0 * G.T @ rows.detach().double()
        off = (grad[-100:].double() - true_grad).norm() / true_grad.norm()
        found[f"gradient, {kept_rows} rows kept"] = off.item()
        if not (found[f"lse, {kept_rows} rows kept"] < 1e-3 and off < 1e-2):
            raise AssertionError(str(found))
    return found
