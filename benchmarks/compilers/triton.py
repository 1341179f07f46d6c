"""Report what the compiler makes of every Triton kernel, on a machine without a GPU.

    python -m fastclip.benchmarks.compilers.triton [--arch sm_90 ...] [--dtype bfloat16 ...]

This prints one JSON line per compiled variant:

    {"kernel": ..., "arch": ..., "dtype": ..., "config": {...}, "registers": ...,
     "spill_bytes": ..., "shared_bytes": ..., "wgmma": ..., "tcgen05": ..., "mma": ...,
     "mfma": ..., "bulk_loads": ..., "async_copies": ..., "shuffles": ..., "seconds": ...,
     "problems": [...]}

It fails if a variant has a problem: spilled registers, more shared memory than the architecture (or
one that shares its tiles) has, or a matrix kernel without tensor-core instructions or without
pipelined loads. The variants are exactly the ones that would be launched, because the backend
itself runs on tensors without data, and the compiler takes its launches.

Instructions are counted by how often they occur in the code, not by how often they run: in the PTX
(wgmma, tcgen05, mma), in the SASS (bulk loads, asynchronous copies, shuffles), and for AMD,
compiled for gfx942, in the assembly (mfma).
"""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from fastclip.backends.triton import (
    contrastive_lse,
    contrastive_lse_backward,
    interpreting,
    siglip_sum,
    siglip_sum_backward,
    siglip_sum_with_gradients,
)
from fastclip.backends.triton.launch import launching_instead
from fastclip.backends.triton.tiles import simulated_architecture
from fastclip.installation import install_command
from fastclip.rectangle import BOTH, Diagonal, Interval, Rectangle, Sides


@dataclass(frozen=True)
class Architecture:
    target: GPUTarget
    shared_limit: int  # bytes that a program may have, on the smallest GPU that shares its tiles
    instructions: tuple[str, ...]  # a matrix kernel must have these


ARCHITECTURES = {
    "sm_80": Architecture(GPUTarget("cuda", 80, 32), 99 << 10, ("mma", "async_copies")),
    "sm_90": Architecture(GPUTarget("cuda", 90, 32), 227 << 10, ("wgmma", "bulk_loads")),
    "sm_100": Architecture(GPUTarget("cuda", 100, 32), 227 << 10, ("tcgen05", "bulk_loads")),
    "rocm": Architecture(GPUTarget("hip", "gfx942", 64), 64 << 10, ("mfma",)),
}
# bfloat16 and float16 features have the same operands; float32 ones have two planes.
DTYPES = ("bfloat16", "float32")
MATRIX_KERNELS = {"negative_sums_kernel", "finalise_kernel", "recomputed_kernel", "sigmoid_kernel"}
SHOWN = ("SEGMENTS", "PLANES", "MAXIMUM", "KEEP", "NORMALIZE", "LOSS", "GRADIENT", "WEIGHTED",
         "WRITE", "EXCLUDES", "OF_COLUMNS", "BLOCK_M", "BLOCK_N", "BLOCK_K", "COLUMN_SUMS",
         "DESCRIPTORS", "num_warps", "num_stages")  # fmt: skip

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class OfflineDriver:
    """The part of a driver that the compiler needs."""

    def __init__(self, architecture: str) -> None:
        self.target = ARCHITECTURES[architecture].target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self.target


def rows(architecture: str, dtype_name: str) -> list[dict[str, Any]]:
    """Return a row per variant. A process can compile for one architecture, which Triton caches."""
    variants, found = _compile(architecture, dtype_name, [(1024, 2048, 768)]), []
    for name, compiled, constants, seconds in variants:
        config = {key: constants[key] for key in SHOWN if key in constants}
        row = {"kernel": name, "arch": architecture, "dtype": dtype_name, "config": config}
        if isinstance(compiled, Exception):
            lines = str(compiled).strip().splitlines() or [type(compiled).__name__]
            found.append(row | {"problems": [f"does not compile: {lines[-1]}"]})
            continue
        row |= evidence(compiled) | {"seconds": round(seconds, 2)}
        found.append(row | {"problems": problems(row)})
    return found


def num_variants(architecture: str, dtype_name: str, shapes: list[tuple[int, int, int]]) -> int:
    return len(_compile(architecture, dtype_name, shapes))


def _compile(
    architecture: str, dtype_name: str, shapes: list[tuple[int, int, int]]
) -> list[tuple[str, Any, dict[str, Any], float]]:
    """Yield each variant's name, `CompiledKernel` or exception, constants and seconds."""
    if interpreting():
        raise RuntimeError("TRITON_INTERPRET is set: nothing would be compiled")
    driver.set_active(OfflineDriver(architecture))
    found = {}

    def compile_instead(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
        start = time.perf_counter()
        name = kernel.fn.__name__
        try:
            compiled = kernel.warmup(*args, grid=grid, **constants)
        except Exception as error:
            # Any exception of the compiler is a finding about this kernel; the others go on.
            found.setdefault((name, str(constants)), (name, error, constants, 0.0))
            return
        seconds = time.perf_counter() - start
        found.setdefault(id(compiled), (name, compiled, constants, seconds))

    with launching_instead(compile_instead), simulated_architecture(architecture):
        for shape in shapes:
            run_everything(getattr(torch, dtype_name), *shape)
    return list(found.values())


def run_everything(dtype: torch.dtype, M: int, N: int, D: int) -> None:
    """Make every launch of the backend, for M x N logits, on tensors without data."""

    def new(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    plain = Rectangle(new(M, D, dtype=dtype), new(N, D, dtype=dtype), new(), Diagonal(0))
    normalized = plain._replace(normalize=True)
    excluding = normalized._replace(excluded=Interval(*new(2, M, dtype=torch.int32)))
    for rectangle, kept_rows in product((normalized, plain, excluding), (0, M // 2)):
        positive, shift, total, kept = contrastive_lse(rectangle, None, kept_rows, kept_rows == 0)
        for wants in (BOTH, Sides(False, False)):
            contrastive_lse_backward(rectangle, positive, total, shift, kept, None, wants)
    bias = new()
    for rectangle in (normalized, excluding):
        row_loss, kept = siglip_sum(rectangle, bias, None, 0)
        siglip_sum_backward(rectangle, bias, row_loss, kept, None, BOTH)
        siglip_sum_with_gradients(rectangle, bias, None, dtype, BOTH)


def evidence(compiled: Any) -> dict[str, int]:
    """Count the instructions in the assembly of a `CompiledKernel`."""
    return _of_amdgcn(compiled) if "amdgcn" in compiled.asm else _of_cubin(compiled)


def _of_amdgcn(compiled: Any) -> dict[str, int]:
    assembly = compiled.asm["amdgcn"]

    def number(name: str) -> int:
        return int(re.search(rf"\.{name}:\s*(\d+)", assembly).group(1))

    return {
        "registers": number("vgpr_count"),
        "spill_bytes": 4 * number("vgpr_spill_count"),
        "shared_bytes": compiled.metadata.shared,
        "mfma": assembly.count("v_mfma"),
    }


def _of_cubin(compiled: Any) -> dict[str, int]:
    ptx = compiled.asm["ptx"]
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        usage, sass = (
            subprocess.run([CUOBJDUMP, flag, cubin], capture_output=True, text=True, check=True)
            for flag in ("-res-usage", "-sass")
        )
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout + usage.stderr).groups()

    def count(opcode: str) -> int:
        return len(re.findall(rf"\s{opcode}\b", sass.stdout))

    return {
        "registers": int(registers),
        "spill_bytes": int(stack),
        "shared_bytes": compiled.metadata.shared,
        "wgmma": ptx.count("wgmma.mma_async"),
        "tcgen05": ptx.count("tcgen05.mma"),
        "mma": ptx.count("mma.sync"),
        "bulk_loads": count("UTMALDG"),
        "async_copies": count("LDGSTS"),
        "shuffles": count("SHFL"),
    }


def problems(row: dict[str, Any]) -> list[str]:
    architecture, found = ARCHITECTURES[row["arch"]], []
    if row["spill_bytes"] > 0:
        found.append(f"spills {row['spill_bytes']} bytes of registers")
    if row["shared_bytes"] > architecture.shared_limit:
        found.append(f"needs {row['shared_bytes']} bytes of shared memory")
    if row["kernel"] in MATRIX_KERNELS:
        found += [f"has no {what}" for what in architecture.instructions if row[what] == 0]
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fastclip.benchmarks.compilers.triton", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--arch", nargs="+", choices=list(ARCHITECTURES), default=list(ARCHITECTURES)
    )
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--jobs", type=int, default=min(8, os.cpu_count() or 1))
    args = parser.parse_args(arguments)
    if importlib.util.find_spec("triton") is None:
        parser.error(f"the kernels need triton: {install_command('triton')}")
    if interpreting():
        parser.error("TRITON_INTERPRET is set: nothing would be compiled")
    failed = False
    # Each architecture needs a fresh process: see `rows`.
    with ProcessPoolExecutor(
        args.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        for of_one in pool.map(rows, *zip(*product(args.arch, args.dtype), strict=True)):
            for row in of_one:
                print(json.dumps(row), flush=True)
                failed |= bool(row["problems"])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
