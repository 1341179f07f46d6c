"""Count what a loss in plain PyTorch costs, operator by operator: bytes moved and FLOPs.

    python -m fastclip.benchmarks.compilers.torch_cost [--n 4096 32768] [--d 512 768 1024]

Forward and backward of the backend `chunked` and of open_clip's eager loss run on tensors without
data. For every operator, each tensor that it reads or writes counts once, even if its kernel reads
it twice or finds it in a cache; for cross_entropy's gather, only the gathered elements count.
Seconds are a prediction without launches: bytes over the memory's rate in the data sheet, plus
FLOPs over the tensor cores' rate. Nothing is measured.

    autocast    open_clip's `ClipLoss` on bfloat16 features under autocast to bfloat16
    bfloat16    the same without autocast: softmax and its gradient in bfloat16
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastclip.backends import chunked
from fastclip.backends.chunked import narrow
from fastclip.backends.chunked.machine import CPU, Machine
from fastclip.benchmarks.compilers.cost import meta_features
from fastclip.benchmarks.traffic import operator_bytes, tensor_bytes
from fastclip.rectangle import BOTH, Diagonal, Rectangle

# From NVIDIA's data sheet of the H200 SXM: dense rates, and multiprocessors.
BYTES_PER_SECOND = 4.8e12
FLOPS_PER_SECOND = {2: 989e12, 4: 67e12}  # by the bytes of a factor; float32 without TF32
H200 = Machine(multiplies_16_bits=True, workspace=256 << 20, multiprocessors=132)
BEFORE = CPU  # earlier versions treated every device like a CPU


@dataclass
class Passes:
    """The bytes that a call reads and writes, and its products' FLOPs by the bytes of a factor."""

    num_bytes: int
    flops: dict[int, int]

    @property
    def seconds(self) -> float:
        products = sum(flops / FLOPS_PER_SECOND[size] for size, flops in self.flops.items())
        return self.num_bytes / BYTES_PER_SECOND + products


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.passes = Passes(0, {2: 0, 4: 0})

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.passes.num_bytes += operator_bytes(func, args, kwargs or {}, result)
        if func._schema.name in ("aten::mm", "aten::addmm", "aten::addmm_"):
            self.product(*[x for x in args if isinstance(x, Tensor)][-2:])
        return result

    def product(self, a: Tensor, b: Tensor) -> None:
        self.passes.flops[a.itemsize] += 2 * a.shape[0] * a.shape[1] * b.shape[1]


def passes_of(call: Callable[[], Any]) -> Passes:
    count = _Count()

    def count_product(out: Tensor, block: Tensor, values: Tensor, first: bool) -> None:
        size = out.nbytes * (1 if first else 2)
        count.passes.num_bytes += tensor_bytes(block) + tensor_bytes(values) + size
        count.product(block[0], values[0])

    with _replaced(narrow, "accumulate", count_product), count:
        call()
    return count.passes


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


def chunked_passes(
    N: int, D: int, machine: Machine = H200, dtype: torch.dtype = torch.bfloat16
) -> Passes:
    """Count forward and backward of the primitive, on features that are normalised already."""
    square = Rectangle(*meta_features(N, N, D, dtype), Diagonal(0))

    def step() -> None:
        positive, shift, total, kept = chunked.contrastive_lse(square, None, 0, False)
        chunked.contrastive_lse_backward(square, positive, total, shift, kept, None, BOTH)

    with _replaced(chunked, "machine_of", lambda device: machine):
        return passes_of(step)


def open_clip_passes(N: int, D: int, autocast: bool = True) -> Passes:
    """Count forward and backward of `open_clip.ClipLoss` in one process."""
    image, text, scale = (x.requires_grad_() for x in meta_features(N, N, D, torch.bfloat16))
    labels = torch.empty(N, dtype=torch.long, device="meta")

    def cross_entropy(rows: Tensor, cols: Tensor) -> Tensor:
        logits = scale * rows @ cols.T
        return F.cross_entropy(logits.float() if autocast else logits, labels)

    def step() -> None:
        loss = (cross_entropy(image, text) + cross_entropy(text, image)) / 2
        torch.autograd.grad(loss, (image, text, scale))

    return passes_of(step)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fastclip.benchmarks.compilers.torch_cost",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument("--n", type=int, nargs="+", default=[4096, 32_768])
    parser.add_argument("--d", type=int, nargs="+", default=[512, 768, 1024])
    args = parser.parse_args()
    print("| N, D | loss | bytes a logit | units of 2 N^2 D | ms |\n|---|---|---|---|---|")
    for N, D in itertools.product(args.n, args.d):
        for name, passes in {
            "open_clip, autocast": open_clip_passes(N, D),
            "open_clip, bfloat16": open_clip_passes(N, D, autocast=False),
            "chunked in float32, chunks of 64 MiB": chunked_passes(N, D, BEFORE),
            "chunked, 16-bit factors": chunked_passes(N, D),
        }.items():
            units = sum(passes.flops.values()) / (2 * N * N * D)
            print(
                f"| {N:,}, {D} | {name} | {passes.num_bytes / N**2:.0f} | {units:.2f} "
                f"| {1e3 * passes.seconds:.2f} |"
            )


if __name__ == "__main__":
    main()
