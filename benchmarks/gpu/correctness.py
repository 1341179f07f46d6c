"""Check a set of kernels against float64 on data that finds bugs, and properties of a device.

This is the stage of one process. It checks one dtype after the other completely, so that a process
that dies or runs out of time leaves verdicts on the dtypes before; checks of no particular dtype
come last. Every result names the kernels, dtype and class of D that it is about: "D" is None if it
is about all of them. `checks.py` has the checks and their budgets.
"""

import functools
from collections.abc import Callable, Collection, Iterator

import torch

from fastclip.backends.gpu.verified import DTYPES, dim_class
from fastclip.benchmarks.cases import DATA, Case
from fastclip.benchmarks.gpu import checks
from fastclip.benchmarks.gpu.agreement import agreement
from fastclip.benchmarks.gpu.kernels import CHUNKED, Kernels, find_kernels, kernels_on
from fastclip.benchmarks.gpu.worker import Check, run_checks

PROPERTIES = {
    "bits": checks.same_bits,
    "statistics": checks.statistics,
    "kept": checks.kept,
    "intervals": checks.intervals,
    "graph": checks.graph,
    "stream": checks.other_stream,
    "devices": checks.other_device,
}
ON_A_GPU = ("graph", "stream", "devices")
# The sizes of a rehearsal on a CPU, where Triton's interpreter takes a second for a step.
SMALL_N, SMALL_DTYPES = 24, ("float16",)


def run(device: str, kernels: str, small: bool = False, twin: str | None = None) -> None:
    """Run the stage; if `twin` is given, also compare with another set, kernel by kernel."""
    other = None if twin is None else find_kernels(twin)
    run_checks(every_check(find_kernels(kernels), device, small, other), device)


def every_check(
    kernels: Kernels, device: str, small: bool, twin: Kernels | None = None
) -> Iterator[Check]:
    for name in SMALL_DTYPES if small else DTYPES:
        dtype = getattr(torch, name)
        if runs(kernels, device, dtype):
            every = of_dtype(device, dtype, small)
            yield from (check_errors(kernels, objective, case) for case, objective in every)
            for case, objective in of_blocks(device, dtype, small) if kernels != CHUNKED else ():
                yield check_errors(kernels, objective, case, small_blocks=True)
            case, _ = next(of_dtype(device, dtype, small))
            yield from check_properties(kernels, case)
    if kernels == CHUNKED:
        return
    if device == "cuda":
        yield check(kernels, "offsets", torch.bfloat16, None, checks.offsets_beyond_31_bits)
    if twin is not None:
        for case in twin_cases(device, small):
            name = f"agreement {kernels} with {twin} {case}"
            run_it = functools.partial(agreement, twin, kernels, case)
            yield Check(name, run_it, _facts(kernels, case.dtype, dim_class(case.D)))


def runs(kernels: Kernels, device: str, dtype: torch.dtype) -> bool:
    return kernels == CHUNKED or kernels in kernels_on(device, dtype)


def of_dtype(device: str, dtype: torch.dtype, small: bool) -> Iterator[tuple[Case, str]]:
    """Yield the cases of a dtype with their objectives; their D cover every class."""
    if small:
        yield Case(SMALL_N, 24, dtype, 100.0, "adversarial", device=device), "clip"
        yield Case(SMALL_N, 24, dtype, 10.0, "trained", device=device), "siglip"
        return
    for data in DATA:
        for N, D, scale in (
            (1000, 72, 14.3), (1000, 72, 100.0), (4096, 768, 100.0), (1000, 1000, 100.0),
        ):  # fmt: skip
            yield Case(N, D, dtype, scale, data, normalize=True, device=device), "clip"
        for D in (512, 768, 1024):
            yield Case(3001, D, dtype, 100.0, data, device=device), "clip"
            yield Case(3001, D, dtype, 10.0, data, normalize=True, device=device), "siglip"


def of_blocks(device: str, dtype: torch.dtype, small: bool) -> Iterator[tuple[Case, str]]:
    """Yield cases whose backward is forced to go over several blocks."""
    for D in (24,) if small else (512, 768, 1024):
        N = SMALL_N if small else 3001
        yield Case(N, D, dtype, 100.0, "adversarial", device=device), "clip"
        yield Case(N, D, dtype, 10.0, "adversarial", normalize=True, device=device), "siglip"


def twin_cases(device: str, small: bool) -> Iterator[Case]:
    if small:
        yield Case(SMALL_N, 24, torch.float16, 100.0, "trained", device=device)
        return
    for dtype in (torch.bfloat16, torch.float32):
        for data, normalize in (("trained", True), ("adversarial", False)):
            yield Case(3001, 768, dtype, 100.0, data, normalize=normalize, device=device)


def check_errors(kernels: Kernels, objective: str, case: Case, small_blocks: bool = False) -> Check:
    kind, call = ("blocks", checks.blocks) if small_blocks else ("errors", checks.errors)
    what = f"{objective} {case}"
    return check(kernels, kind, case.dtype, case.D, call, objective, case, what=what)


def check_properties(
    kernels: Kernels, case: Case, kinds: Collection[str] = PROPERTIES, every_dim: bool = True
) -> Iterator[Check]:
    """Check one case; with `every_dim`, the results count for every D of its dtype."""
    D = None if every_dim else case.D
    for kind in kinds:
        keeps_nothing = kind == "kept" and kernels == CHUNKED
        if not keeps_nothing and (case.device == "cuda" or kind not in ON_A_GPU):
            yield check(kernels, kind, case.dtype, D, PROPERTIES[kind], case, what=str(case))


def check(
    kernels: Kernels,
    kind: str,
    dtype: torch.dtype,
    D: int | None,
    call: Callable[..., dict | None],
    *args,
    what: str = "",
) -> Check:
    """Make a check of `call(backend, *args)` while the backend uses these kernels."""

    def run_it() -> dict | None:
        with kernels.chosen():
            return call(kernels.backend, *args)

    dim = None if D is None else dim_class(D)
    name = " ".join(filter(None, (kind, str(kernels), what)))
    return Check(name, run_it, _facts(kernels, dtype, dim))


def _facts(kernels: Kernels, dtype: torch.dtype, dim: int | None) -> dict[str, str | int | None]:
    return {"kernels": str(kernels), "dtype": str(dtype).removeprefix("torch."), "D": dim}
