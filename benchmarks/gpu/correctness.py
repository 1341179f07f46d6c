"""Every GPU backend against float64, on the data that finds bugs, and what only a device can show.

errors        loss and gradients on all data, dtypes and scales. 16-bit features: no gradient is
              further off than that of eager code under autocast. float32: within three times
              the error of eager float32. Both plus an ulp of the dtype
bits          two runs are equal bit for bit
kept          with a workspace that keeps the logits, the same budget
agreement     each kernel makes the same as its twin of another set (`agreement.py`)
statistics    top-1 accuracies and the hardest negative equal the reference's
graph         forward and backward are captured in a CUDA graph, which nothing that waits for the
              host would allow; its replay on other data equals a call
stream        a call on a stream of its own equals one on the default stream
devices       features on the last GPU while the first is current
offsets       N x D and kept rows x N beyond 2^31

The second word of a check's name is whose kernels it checks. The CUDA backend has two sets of them
on Hopper, and both are checked.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor

import fastclip
from fastclip.benchmarks import accuracy
from fastclip.benchmarks.cases import DATA, Case, Shape, make_features
from fastclip.benchmarks.gpu.agreement import agreement
from fastclip.benchmarks.gpu.kernels import Kernels, kernels_on
from fastclip.benchmarks.gpu.worker import run_checks
from fastclip.benchmarks.providers import Provider, find_provider
from fastclip.benchmarks.step import Outcome, Step, leaves
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.rectangle import Diagonal, Rectangle

FACTOR = 3.0
BIG = 1 << 31


def checked(device: str, dtype: torch.dtype = torch.float32) -> list[Kernels]:
    """What is for this device and runs on it; the specification is not among them."""
    return [*kernels_on(device, dtype), Kernels("chunked")]


def run(device: str, skip: list[str], small: bool = False) -> None:
    run_checks(checks(device, small), skip)


def checks(device: str, small: bool) -> Iterator[tuple[str, Callable[[], dict | None]]]:
    for case, objective in cases(device, small):
        for kernels in checked(device, case.dtype):
            yield f"errors {kernels} {objective} {case}", _of(kernels, errors, objective, case)
    case = next(cases(device, small))[0]
    for kernels in checked(device, case.dtype):
        yield f"bits {kernels}", _of(kernels, same_bits, case)
        yield f"statistics {kernels}", _of(kernels, statistics, case)
        if device == "cuda":
            yield f"graph {kernels}", _of(kernels, graph, case)
            yield f"stream {kernels}", _of(kernels, other_stream, case)
            yield f"devices {kernels}", _of(kernels, other_device, case)
    for kernels in kernels_on(device, case.dtype):
        yield f"kept {kernels}", _of(kernels, kept, case)
        if device == "cuda":
            yield f"offsets {kernels}", _of(kernels, offsets_beyond_31_bits)
    for case in agreement_cases(device, small):
        first, *others = kernels_on(device, case.dtype) or [None]
        for other in others:
            name = f"agreement {other} with {first} {case}"
            yield name, lambda f=first, o=other, c=case: agreement(f, o, c)


def _of(kernels: Kernels, check: Callable[..., dict | None], *args) -> Callable[[], dict | None]:
    """The check of a backend, while these kernels are its own."""

    def checked() -> dict | None:
        with kernels.chosen():
            return check(kernels.backend, *args)

    return checked


def cases(device: str, small: bool) -> Iterator[tuple[Case, str]]:
    if small:
        yield Case(70, 24, torch.float32, 100.0, "adversarial", device=device), "clip"
        yield Case(70, 24, torch.float32, 10.0, "trained", device=device), "siglip"
        return
    dtypes = torch.bfloat16, torch.float16, torch.float32
    for data, dtype in product(DATA, dtypes):
        for N, D, scale in ((1000, 72, 14.3), (1000, 72, 100.0), (4096, 768, 100.0)):
            yield Case(N, D, dtype, scale, data, normalize=True, device=device), "clip"
    for data, dtype in product(DATA, dtypes):
        yield Case(3001, 512, dtype, 100.0, data, device=device), "clip"
        yield Case(3001, 512, dtype, 10.0, data, normalize=True, device=device), "siglip"


def agreement_cases(device: str, small: bool) -> Iterator[Case]:
    if small:
        yield Case(70, 24, torch.float32, 100.0, "trained", device=device)
        return
    for dtype, normalize in product((torch.bfloat16, torch.float32), (True, False)):
        for data in ("trained", "adversarial"):
            yield Case(3001, 768, dtype, 100.0, data, normalize=normalize, device=device)


def errors(backend: str, objective: str, case: Case) -> dict:
    """Returns the errors; raises AssertionError beyond the budget."""
    inputs, truth, eager = _expected(objective, case)
    ours = _errors(find_provider(objective, f"fastclip/{backend}"), case, inputs, truth)
    factor = FACTOR if case.dtype == torch.float32 else 1.0
    for name, error in ours.items():
        ulp = torch.finfo(case.dtype if name.endswith("features") else torch.float32).eps
        # The two scalars may be right by luck in eager code, and are sums that cancel.
        slack = 1e-3 if name in ("loss", "logit_scale", "logit_bias") else 0.0
        budget = factor * eager[name] + FACTOR * ulp + slack
        if name != "loss_absolute" and not error <= budget:
            raise AssertionError(f"{name}: error {error:.2e} above its budget {budget:.2e}")
    return {"errors": ours, "eager": eager}


@functools.lru_cache(maxsize=1)
def _expected(objective: str, case: Case) -> tuple[tuple, Outcome, dict[str, float]]:
    """Inputs, the truth of them, and the errors of eager code: the same for all kernels."""
    inputs = leaves(objective, case)
    truth = accuracy.exact(objective, inputs, case.normalize)
    eager_case = dataclasses.replace(case, autocast=case.dtype != torch.float32)
    return inputs, truth, _errors(_eager(objective), eager_case, inputs, truth)


def _eager(objective: str) -> Provider:
    """The eager code anyone would write, in the words of our specification, under autocast."""
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
        if abs(value.item() - true.item()) > 0.01 * max(1.0, abs(true.item())):
            raise AssertionError(f"{name} is {value.item()}, not {true.item()}")


def kept(backend: str, case: Case) -> dict:
    inputs = leaves("clip", case)
    truth = accuracy.exact("clip", inputs, case.normalize)
    without, with_kept = (
        _errors(find_provider("clip", name), case, inputs, truth)
        for name in (f"fastclip/{backend}", f"fastclip/{backend}+workspace")
    )
    for name in ("image_features", "text_features"):
        if not with_kept[name] <= 2.0 * without[name] + 1e-6:
            raise AssertionError(f"{name}: {with_kept[name]:.2e} against {without[name]:.2e}")
    return {"errors": with_kept, "without": without}


def graph(backend: str, case: Case) -> None:
    """Captured with one batch, replayed with another."""
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
    """A strip so long that N D and kept rows x N pass 2^31: its last columns are checked."""
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
