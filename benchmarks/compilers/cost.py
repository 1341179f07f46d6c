"""Count what a call costs from the launches that it would make: FLOPs, bytes, peak memory.

    python -m fastclip.benchmarks.compilers.cost [--n 32768] [--d 768] [--dtype bfloat16]

The backend runs on tensors without data. For every matrix kernel and every product, the FLOPs of
its padded tiles are counted; for every launch, the bytes of each tensor, or of the part that it
touches, once, because what a tile reads again comes from the L2 cache. Memory is the sum of the
tensors that are alive at the same time, beyond inputs and gradients. Nothing is measured.
"""

import argparse
import importlib.util
import inspect
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastclip.backends.gpu import block_walk
from fastclip.backends.gpu.operand import padded
from fastclip.backends.triton import (
    contrastive_lse,
    contrastive_lse_backward,
    kept_layout,
    siglip_sum_with_gradients,
)
from fastclip.backends.triton.launch import launching_instead
from fastclip.installation import install_command
from fastclip.rectangle import BOTH, ROWS, Diagonal, Rectangle, Sides


@dataclass
class Cost:
    flops: int = 0
    num_bytes: int = 0
    peak_bytes: int = 0
    launches: int = 0

    def units(self, M: int, N: int, D: int) -> float:
        """Return the cost in products of 2 M N D FLOPs."""
        return self.flops / (2 * M * N * D)


def cost_of(call: Callable[[], Any]) -> Cost:
    """Return the cost of `call` on meta tensors; tensors that it returns do not count as memory."""
    cost = Cost()

    def count_launch(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
        cost.launches += 1
        given = dict(zip(inspect.signature(kernel.fn).parameters, args, strict=False)) | constants
        cost.flops += _flops(kernel.fn.__name__, grid, given)
        cost.num_bytes += _bytes(kernel.fn.__name__, grid, given)

    def count_product(out: Tensor, block: Tensor, values: Tensor, first: bool) -> None:
        planes, m, n = block.shape
        cost.launches += 1 if planes == 1 else 3
        cost.flops += 2 * m * n * values.shape[-1] * (1 if planes == 1 else 3)
        cost.num_bytes += block.nbytes + values.nbytes + out.nbytes * (1 if first else 2)

    accumulate = block_walk.accumulate
    block_walk.accumulate = count_product
    try:
        with launching_instead(count_launch), _LiveBytes() as live:
            kept_alive = call()
            result_bytes = sum(x.nbytes for x in tree_leaves(kept_alive) if _is_tensor(x))
    finally:
        block_walk.accumulate = accumulate
    cost.peak_bytes = max(0, live.peak - result_bytes)
    return cost


def _is_tensor(x: Any) -> bool:
    return isinstance(x, Tensor)


def _flops(name: str, grid: tuple[int, ...], given: dict[str, Any]) -> int:
    if name == "negative_sums_kernel":
        rows, cols = padded(given["M"], given["BLOCK_M"]), grid[0] * given["BLOCK_N"]
    elif name in ("recomputed_kernel", "sigmoid_kernel"):
        rows, cols = given["num_rows"], given["num_cols"]
    else:
        return 0  # vectors; and the rescue of `finalise.py`, which only some data need
    return 2 * rows * cols * given["k_tiles"] * given["BLOCK_K"] * given["SEGMENTS"]


def _bytes(name: str, grid: tuple[int, ...], given: dict[str, Any]) -> int:
    tensors = {key: getattr(x, "base", x) for key, x in given.items()}
    tensors = {key: x for key, x in tensors.items() if _is_tensor(x)}
    # A launch touches only its own panel of the columns and of kept logits.
    shares = {}
    if name == "negative_sums_kernel":
        share = grid[0] * given["BLOCK_N"] / given["col_plane"]
        shares = {"cols": share, "kept": share, "col_partial": share}
    elif name in ("recomputed_kernel", "sigmoid_kernel"):
        shares = {"cols": given["num_cols"] / given["col_plane"]}
    elif name == "kept_kernel":
        rows, cols = tensors["kept"].shape
        shares = {"kept": given["num_rows"] * given["num_cols"] / (rows * cols)}
    distinct = {id(x): x.nbytes * shares.get(key, 1.0) for key, x in tensors.items()}
    return round(sum(distinct.values()))


class _LiveBytes(TorchDispatchMode):
    """Records the sum of living storages that operators have made, and its peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if _is_tensor(x)}
        for tensor in tree_leaves(result):
            if _is_tensor(tensor):
                self._count(tensor.untyped_storage(), given)
        return result

    def _count(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key = storage._cdata
        if key in self.known or key in given:
            return
        self.known.add(key)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, num_bytes: int) -> None:
        self.known.discard(key)
        self.live -= num_bytes


def meta_features(M: int, N: int, D: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return features of both sides and a scalar, without data."""
    new = torch.empty
    return (
        new((M, D), dtype=dtype, device="meta"),
        new((N, D), dtype=dtype, device="meta"),
        new((), device="meta"),
    )


def clip_costs(
    N: int, D: int, dtype: torch.dtype, kept_rows: int = 0, wants: Sides = BOTH
) -> tuple[Cost, Cost]:
    """Return the costs of the forward, without kept logits, and of the backward."""
    square = Rectangle(*meta_features(N, N, D, dtype), Diagonal(0), normalize=True)
    positive, total = (torch.empty(size, device="meta") for size in (N, 2 * N))
    layout = kept_layout("contrastive_lse", dtype)
    kept = torch.empty((kept_rows, layout.row_bytes(N)), dtype=torch.uint8, device="meta")
    forward = cost_of(lambda: contrastive_lse(square, None, kept_rows, False))
    backward = cost_of(
        lambda: contrastive_lse_backward(square, positive, total, total, kept, None, wants)
    )
    return forward, backward


def siglip_cost(N: int, D: int, dtype: torch.dtype) -> Cost:
    """Return the cost of SigLIP's one pass."""
    square = Rectangle(*meta_features(N, N, D, dtype), Diagonal(0), normalize=True)
    bias = square.logit_scale
    return cost_of(lambda: siglip_sum_with_gradients(square, bias, None, dtype, BOTH))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fastclip.benchmarks.compilers.cost", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--n", type=int, default=32_768)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    args = parser.parse_args()
    if importlib.util.find_spec("triton") is None:
        parser.error(f"the kernels need triton: {install_command('triton')}")
    N, D, dtype = args.n, args.d, getattr(torch, args.dtype)
    forward, backward = clip_costs(N, D, dtype)
    kept_forward, kept_backward = clip_costs(N, D, dtype, kept_rows=N)
    one_side = clip_costs(N, D, dtype, wants=ROWS)[1]
    rows = {
        "clip, forward": forward,
        "clip, backward": backward,
        "clip, backward of one side": one_side,
        "clip, forward, keeping all logits": kept_forward,
        "clip, backward, from kept logits": kept_backward,
        "siglip, forward and backward in one pass": siglip_cost(N, D, dtype),
    }
    print(f"N = {N}, D = {D}, {args.dtype}\n")
    print("| | units of 2 N^2 D | GiB moved | peak MiB | launches |\n|---|---|---|---|---|")
    for name, cost in rows.items():
        print(
            f"| {name} | {cost.units(N, N, D):.2f} | {cost.num_bytes / 2**30:.2f} "
            f"| {cost.peak_bytes / 2**20:.0f} | {cost.launches} |"
        )


if __name__ == "__main__":
    main()
