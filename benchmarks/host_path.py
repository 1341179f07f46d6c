"""Count launches and host time of a step of the CLIP loss on the backend `cuda`, without a GPU.

    python -m fastclip.benchmarks.host_path build/emulator/emulator.so [--normalize]

A GPU finishes a batch of a few thousand pairs faster than the host can launch it, so that the time
of a step is the time of the Python and C++ code around the kernels. The library is the emulator of
the kernels (`tests/emulator`; `tests.support.emulator.build` makes it) in a mode that launches
nothing: operators check their arguments, divide the work and return. The vendor's products are
replaced by the smallest possible product. open_clip's loss runs in the same way, on features so
small that its operators have nothing to compute.

    launches    our kernels, and torch's operators that are neither views nor allocations
    us          CPU time of this thread, the least of many steps; both losses in turns

The driver of a GPU adds 3 to 5 us for each launch, which is not in the times; that is why launches
are counted. Times depend on the machine: compare their ratio.
"""

import argparse
import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastclip.backends.cuda import library
from fastclip.backends.gpu import products
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.providers import find_provider
from fastclip.benchmarks.step import Step

OURS, THEIRS = "fastclip/cuda", "open_clip"
ROUNDS, STEPS = 15, 40
# One tile with nothing to compute: both losses call the same operators at any size that is one
# block of ours.
TINY = 8
ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


@dataclass(frozen=True)
class HostTime:
    """The host time of steps, timed in turns with open_clip's."""

    ours: float  # seconds, the least
    theirs: float
    ratio: float  # median over rounds of our least time over their least time


@contextmanager
def idle_kernels(path: Path) -> Iterator[Callable[[], int]]:
    """Make `cuda` accept features on the CPU and compute nothing, within the context.

    Yields a function that returns how many kernels have been launched so far.
    """
    emulator = ctypes.CDLL(str(path))
    factors = torch.ones(1, 1)

    def product(out: Tensor, a: Tensor, b: Tensor, beta: float, alpha: float) -> None:
        torch.addmm(factors, factors, factors, beta=beta, alpha=alpha, out=factors)

    with library.emulator(path), patch.object(products, "_addmm", product):
        emulator.fastclip_emulator_idle()
        try:
            yield emulator.fastclip_emulator_num_launches
        finally:
            emulator.fastclip_emulator_options(0, False)


def step(provider: str, N: int, D: int, normalize: bool, dtype: torch.dtype) -> Step:
    case = Case(N, D, dtype, data="random", normalize=normalize)
    return Step(find_provider("clip", provider), case)


def launches(call: Callable[[], Any], num_launched: Callable[[], int]) -> list[str]:
    """List what a call launches: torch's operators by name, and "kernel" for each of ours."""
    before = num_launched()
    with _Operators() as operators:
        call()
    return [*operators.names, *["kernel"] * (num_launched() - before)]


class _Operators(TorchDispatchMode):
    """Records the operators of torch that would launch a kernel on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.namespace == "fastclip":  # counted by the operators that it calls
            with self:
                return func._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, *args, **kwargs)
        result = func(*args, **kwargs)
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor) and x.numel() > 0]
        name = func._schema.name.removeprefix("aten::")
        if func.namespace == "aten" and made and not func.is_view and name not in ALLOCATIONS:
            self.names.append(name)
        return result


def host_time(ours: Step, theirs: Step) -> HostTime:
    found = {ours: [], theirs: []}
    for call in found:
        for _ in range(STEPS):
            call()
    for number in range(ROUNDS):
        for call in (ours, theirs) if number % 2 else (theirs, ours):
            found[call].append(min(_cpu_seconds(call) for _ in range(STEPS)))
    ratios = [one / other for one, other in zip(found[ours], found[theirs], strict=True)]
    return HostTime(min(found[ours]), min(found[theirs]), median(ratios))


def _cpu_seconds(call: Callable[[], Any]) -> float:
    begin = time.thread_time_ns()
    call()
    return 1e-9 * (time.thread_time_ns() - begin)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fastclip.benchmarks.host_path", description=__doc__.splitlines()[0]
    )
    parser.add_argument("library", type=Path, help="the emulator of the kernels")
    parser.add_argument("--n", type=int, default=2048)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--normalize", action="store_true", help="let the losses normalise")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    kind = args.normalize, getattr(torch, args.dtype)
    with idle_kernels(args.library) as num_launched:
        for name, N, D in ((OURS, args.n, args.d), (THEIRS, TINY, TINY)):
            found = launches(step(name, N, D, *kind), num_launched)
            print(f"{name}: {len(found)} launches a step: {', '.join(found)}")
        time_ = host_time(step(OURS, TINY, TINY, *kind), step(THEIRS, TINY, TINY, *kind))
    print(
        f"host time of a step: {1e6 * time_.ours:.0f} us against {1e6 * time_.theirs:.0f} us, "
        f"ratio {time_.ratio:.2f}"
    )


if __name__ == "__main__":
    main()
