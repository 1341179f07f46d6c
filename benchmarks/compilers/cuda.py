"""Report what the compiler made of every CUDA kernel, on a machine without a GPU.

    python -m fastclip.benchmarks.compilers.cuda [--arch sm_90a ...] [--json]

This reads the machine code in `fastclip/_cuda.so` and prints a line for each kernel and
architecture: registers, spilled bytes, shared memory, blocks per multiprocessor, and how often
instructions occur in the code (not how often they run): products of the tensor cores (HMMA, and
HGMMA of a warpgroup), loads of the copy engine (UTMALDG, and how many of them serve a cluster),
asynchronous copies, shuffles, exponentials, barriers.

The command fails if a kernel has a problem: spilled registers, no room for a block, or a matrix
kernel without products of the tensor cores or without pipelined loads. It needs cuobjdump, from a
CUDA toolkit or from the package triton.
"""

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from fastclip.backends.cuda import library

REGISTERS = 65536  # of a multiprocessor


@dataclass(frozen=True)
class Multiprocessor:
    threads: int
    shared_bytes: int
    most_shared_bytes: int  # of a block


MULTIPROCESSORS = {
    "sm_80": Multiprocessor(2048, 164 << 10, 163 << 10),
    "sm_86": Multiprocessor(1536, 100 << 10, 99 << 10),
    "sm_89": Multiprocessor(1536, 100 << 10, 99 << 10),
    "sm_90a": Multiprocessor(2048, 228 << 10, 227 << 10),
    "sm_100": Multiprocessor(2048, 228 << 10, 227 << 10),
    "sm_120": Multiprocessor(1536, 100 << 10, 99 << 10),
}
RESERVED_BYTES = 1 << 10  # of a block's shared memory, by the driver

# Threads of a block and bytes of shared memory with which the kernels are launched.
LAUNCHES = {
    "scalars": (1, 0),
    "prepare": (256, 0),
    "positives": (256, 0),
    "extents": (256, 32),
    "pairs": (256, 32),
    "mean_loss": (1024, 256),
    "statistics_gradients": (1024, 256),
    "scale_gradient": (1024, 256),
    "negative_sums": (256, 50176),
    "finalise": (256, 50176),
    "logit_gradients": (256, 50176),
    "kept_gradients": (128, 0),
    "sigmoid_tiles": (256, 49152),
    "feature_gradient": (256, 0),
    "hopper_negative_sums": (384, 204872),
    "hopper_logit_gradients": (384, 221184),
    "hopper_sigmoid_tiles": (384, 214016),
}
# Instructions without which a kernel cannot be fast.
NEEDED = {
    "negative_sums": ("products", "async_copies"),
    "finalise": ("products", "async_copies"),
    "logit_gradients": ("products", "async_copies"),
    "sigmoid_tiles": ("products", "async_copies"),
    "hopper_negative_sums": ("warpgroup_products", "bulk_loads", "multicasts"),
    "hopper_logit_gradients": ("warpgroup_products", "bulk_loads", "multicasts"),
    "hopper_sigmoid_tiles": ("warpgroup_products", "bulk_loads", "multicasts"),
}
INSTRUCTIONS = {
    "products": r"HMMA\.16816",
    "warpgroup_products": r"HGMMA",
    "bulk_loads": r"UTMALDG",
    "multicasts": r"UTMALDG\.\S*MULTICAST",
    "async_copies": r"LDGSTS",
    "shuffles": r"SHFL",
    "exponentials": r"MUFU\.EX2",
    "barriers": r"BAR",
}


@dataclass(frozen=True)
class CompiledKernel:
    kernel: str
    variant: str  # template arguments
    arch: str
    registers: int
    spilled_bytes: int
    shared_bytes: int
    blocks: int  # that a multiprocessor has room for
    counts: dict[str, int]
    problems: tuple[str, ...]


def rows(path: Path, architectures: tuple[str, ...] | None = None) -> list[CompiledKernel]:
    """Return a row per kernel and architecture; Hopper's kernels have rows for sm_90a only."""
    compiled = [x for x in library.architectures() if x.startswith("sm_")]
    return [
        row
        for arch in compiled
        if architectures is None or arch in architectures
        for row in _rows_of(path, arch)
    ]


def _rows_of(path: Path, arch: str) -> Iterator[CompiledKernel]:
    usage = dict(_usage(_cuobjdump("-res-usage", "-arch", arch, path)))
    for function, code in _functions(_cuobjdump("-sass", "-arch", arch, path)):
        kernel, variant = _named(function)
        if kernel.startswith("hopper_") and arch != "sm_90a":
            continue  # empty there
        registers, spilled = usage[function]
        threads, shared = LAUNCHES[kernel]
        blocks = _blocks(arch, registers, threads, shared)
        counts = {
            name: len(re.findall(rf"\s{opcode}", code)) for name, opcode in INSTRUCTIONS.items()
        }
        found = [f"has no {name}" for name in NEEDED.get(kernel, ()) if counts[name] == 0]
        if spilled > 0:
            found.append(f"spills {spilled} bytes of registers")
        if blocks == 0:
            found.append("has no room on a multiprocessor")
        yield CompiledKernel(
            kernel, variant, arch, registers, spilled, shared, blocks, counts, tuple(found)
        )


def _blocks(arch: str, registers: int, threads: int, shared: int) -> int:
    has = MULTIPROCESSORS[arch]
    if shared > has.most_shared_bytes:
        return 0
    of_block = -(-registers // 8) * 8 * -(-threads // 32) * 32
    by_shared = has.shared_bytes // (shared + RESERVED_BYTES)
    return min(REGISTERS // of_block, has.threads // threads, by_shared, 32)


def _usage(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield each function with its registers and bytes of stack."""
    for match in re.finditer(r"Function (\S+):\s+REG:(\d+) STACK:(\d+)", text):
        yield match.group(1), (int(match.group(2)), int(match.group(3)))


def _functions(sass: str) -> Iterator[tuple[str, str]]:
    pieces = re.split(r"Function : (\S+)", sass)
    yield from zip(pieces[1::2], pieces[2::2], strict=True)


def _named(function: str) -> tuple[str, str]:
    """ "_ZN8fastclip4cuda20negative_sums_kernelILb0E..." to "negative_sums" and "Lb0E..."."""
    match = re.search(r"\d+((?:hopper_)?[a-z_]+)_kernel(?:I(.*?)EEv)?", function)
    return match.group(1), _readable(match.group(2) or "")


def _readable(mangled: str) -> str:
    """Translate template arguments: "Lb0ELNS0_4KeptE2E" to "false, 2"."""
    words = {
        "Lb0E": "false", "Lb1E": "true", "13__nv_bfloat16": "bfloat16", "6__half": "float16",
        "S2_": "the same", "f": "float32", "s": "int16",
    }  # fmt: skip
    found = re.findall(r"Lb[01]E|LNS0_4KeptE\dE|13__nv_bfloat16|6__half|S2_|[fs]$|f", mangled)
    return ", ".join(words.get(x) or x[-2] for x in found)


def _cuobjdump(*arguments: object) -> str:
    command = [str(find_cuobjdump()), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def find_cuobjdump() -> Path | None:
    found = shutil.which("cuobjdump") or shutil.which("cuobjdump", path="/usr/local/cuda/bin")
    if found is None and (triton := importlib.util.find_spec("triton")) is not None:
        found = shutil.which("cuobjdump", path=f"{triton.submodule_search_locations[0]}"
                             "/backends/nvidia/bin")  # fmt: skip
    return None if found is None else Path(found)


def objection() -> str | None:
    """Return why there is nothing to report on, or None if there is."""
    if find_cuobjdump() is None:
        return "cuobjdump is neither on PATH nor in the package triton"
    return library.load()


def table(found: list[CompiledKernel]) -> str:
    names = list(INSTRUCTIONS)
    head = ["kernel", "arch", "registers", "spilled", "shared", "blocks", *names, "problems"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in found:
        name = f"{row.kernel}<{row.variant}>" if row.variant else row.kernel
        cells = [name, row.arch, row.registers, row.spilled_bytes, row.shared_bytes, row.blocks]
        cells += [row.counts[x] for x in names] + ["; ".join(row.problems) or "none"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fastclip.benchmarks.compilers.cuda", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--arch", nargs="+", help="architectures, for example sm_90a; default: all")
    parser.add_argument("--json", action="store_true", help="print a JSON line for each kernel")
    args = parser.parse_args(arguments)
    why = objection()
    if why is not None:
        print(f"there is no report: {why}")
        return 0
    found = rows(library.LIBRARY, args.arch and tuple(args.arch))
    print("\n".join(json.dumps(asdict(row)) for row in found) if args.json else table(found))
    return int(any(row.problems for row in found))


if __name__ == "__main__":
    sys.exit(main())
