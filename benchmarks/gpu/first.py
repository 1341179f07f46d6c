"""The first command on a GPU: `make gpu-first GPU_OUTPUT=FOLDER`.

The most informative results come first: a few small checks of Hopper's kernels, then their times at
N = 32,768 with the time of every kernel, then larger checks. Each set of kernels has its own
process, which is abandoned if it dies or says nothing for 20 seconds. Every result is written to
`first.json` at once, and a compact table is printed at the end.

`main` watches a process, and `run` is the stage that runs in that process.
"""

import argparse
import functools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fastclip.benchmarks import host
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.gpu.ceilings import matmul
from fastclip.benchmarks.gpu.correctness import check_errors, check_properties, runs
from fastclip.benchmarks.gpu.journal import Journal
from fastclip.benchmarks.gpu.kernel_times import kernel_times
from fastclip.benchmarks.gpu.kernels import Kernels, find_kernels, missing_from, sets_on
from fastclip.benchmarks.gpu.speed import FORWARD, STEP, call_of
from fastclip.benchmarks.gpu.summary import section
from fastclip.benchmarks.gpu.verdict import said
from fastclip.benchmarks.gpu.watched import watch_checks
from fastclip.benchmarks.gpu.worker import Check, run_checks, sign_of_life
from fastclip.benchmarks.measure import describe
from fastclip.benchmarks.step import leaves
from fastclip.benchmarks.timing import time_together

SECONDS = 170.0
SMALL = ((300, 100, torch.bfloat16), (1000, 72, torch.float16))
LARGE = ((3001, 512, torch.bfloat16), (4096, 768, torch.float32))
TIMED = ((32_768, 768), (32_768, 512), (32_768, 1024), (4_096, 768), (2_048, 512))
PROPERTIES = "bits", "kept", "graph"
WHAT = (("clip", "random", 100.0), ("clip", "adversarial", 100.0), ("siglip", "random", 10.0))


def run(device: str, kernels: str, small: bool = False) -> None:
    run_checks(every_check(find_kernels(kernels), device, small), device)


def every_check(kernels: Kernels, device: str, small: bool) -> Iterator[Check]:
    """Yield every check; with `small`, the small ones of a rehearsal."""
    before = ((24, 24, torch.float16),) if small else SMALL
    timed = ((24, 24, torch.float16),) if small else [(*size, torch.bfloat16) for size in TIMED]
    yield matmul(device, torch.bfloat16, 64 if small else 8192)
    yield from _right(kernels, device, before)
    for N, D, dtype in timed:
        case = Case(N, D, dtype, normalize=True, device=device)
        yield Check(f"time {kernels} {case}", functools.partial(times, kernels, case))
    yield from _right(kernels, device, () if small else LARGE)


def _right(kernels: Kernels, device: str, sizes: tuple) -> Iterator[Check]:
    for N, D, dtype in sizes:
        if runs(kernels, device, dtype):
            for objective, data, scale in WHAT:
                case = Case(N, D, dtype, scale, data, normalize=True, device=device)
                yield check_errors(kernels, objective, case)
            yield from check_properties(kernels, case, PROPERTIES)


def times(kernels: Kernels, case: Case) -> dict[str, Any]:
    inputs = leaves("clip", case)
    calls = {what: call_of(case, inputs, what, kernels) for what in (FORWARD, STEP)}
    found = time_together(
        calls, case.N, case.D, budget_seconds=0.3, device=case.device, progress=sign_of_life
    )
    for timing in found.values():
        if isinstance(timing, Exception):
            raise timing
    result = {
        "forward_ms": round(1e3 * found[FORWARD].seconds, 4),
        "step_ms": round(1e3 * found[STEP].seconds, 4),
        "step_times_floor": round(found[STEP].times_floor, 3),
    }
    try:
        return result | {"launches": kernel_times(calls[STEP], case.device)}
    except Exception as error:  # some machines do not allow profiling
        return result | {"launches": [], "profiler": describe(error)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make gpu-first", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("build/gpu-results"))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a rehearsal of a few seconds")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("gpu-first: this torch sees no CUDA device", file=sys.stderr)
        return 2

    end = time.monotonic() + args.seconds
    facts = host.facts() | (host.gpu_facts() if args.device == "cuda" else {})
    command = f"make gpu-first GPU_OPTIONS='--device {args.device} --seconds {args.seconds:g}'"
    journal = Journal(args.output / "first.json", command, facts, ("results",))

    def record(row: dict[str, Any]) -> None:
        journal.add("results", row)
        print(row["name"], row.get("reason", row.get("step_ms", "")), flush=True)

    for kernels in sets_on(args.device):
        request = {"device": args.device, "kernels": str(kernels), "small": args.small}
        ending = watch_checks("first", request, kernels.patience, end, record)
        print(f"{kernels}: {ending}", flush=True)
    rows = journal.content["results"]
    print(table(rows, missing_from(args.device)), flush=True)
    return 0 if rows and all(row["passed"] is True for row in rows) else 1


def table(rows: list[dict[str, Any]], missing: dict[str, str]) -> str:
    """Return a table of less than 12,000 characters."""
    failures = [said(row) for row in rows if row["passed"] is not True]
    failures += [f"backend {name}: {why}" for name, why in missing.items()]
    failures += [f"{row['name']}: {row['profiler']}" for row in rows if "profiler" in row]
    passed = sum(row["passed"] is True for row in rows)
    timed = [row for row in rows if "step_ms" in row]
    speeds = [
        f"{row['name']}: forward {row['forward_ms']} ms, step {row['step_ms']} ms, "
        f"{row['step_times_floor']}x of the floor"
        for row in timed
    ]
    speeds += [f"{row['name']}: {row['rate'] / 1e12:.0f} TFLOP/s" for row in rows if "rate" in row]
    launches = [
        f"{row['name'].removeprefix('time ')}: {ms} ms in {count} of {name}"
        for row in timed
        for name, count, ms in row["launches"][:5]
    ]
    return "\n".join(
        [
            section("Kernels of a step", launches, 5000),
            section(f"{passed} of {len(rows)} passed; failures", failures or ["none"], 3000),
            section("Speed", speeds, 3000),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
