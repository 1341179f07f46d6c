"""The command `make gpu-check GPU_OUTPUT=FOLDER`.

It runs the stages one after the other within --seconds and writes every result to the folder at
once: `gpu-check.json`, and from it a report, `gpu-check.md`, and the table of `auto`,
`verified.csv`. At the end it prints a summary of less than 12,000 characters. The exit status is 0
if every check ran and passed, 1 if not, and 2 without a GPU.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from fastclip.backends.gpu import verified
from fastclip.benchmarks import host
from fastclip.benchmarks.figures.plots import save_plots
from fastclip.benchmarks.gpu import findings
from fastclip.benchmarks.gpu.journal import Journal
from fastclip.benchmarks.gpu.kernels import CHUNKED, Kernels, missing_from, sets_on
from fastclip.benchmarks.gpu.report import markdown, of_objective
from fastclip.benchmarks.gpu.summary import summary
from fastclip.benchmarks.gpu.table import verified_rows
from fastclip.benchmarks.gpu.watched import (
    COMPILING,
    DONE,
    Ending,
    Patience,
    watch_cells,
    watch_checks,
)

SECTIONS = ("correctness", "ceilings", "speed", "comparison", "training", "tools")
SECONDS = 330.0
SANITIZER_SECONDS, LEAST_SANITIZER_SECONDS = 70.0, 20.0


class Check:
    """One run: its journal, and the time that is left.

    dead: names of kernels that crashed a process; they are not measured again.
    """

    def __init__(self, journal: Journal, device: str, seconds: float, small: bool) -> None:
        self.journal, self.device, self.small = journal, device, small
        self.deadline = time.monotonic() + seconds
        self.dead: list[str] = []

    def end_after(self, fraction: float) -> float:
        """Return when a stage ends that may take this fraction of the remaining time."""
        now = time.monotonic()
        return now + fraction * max(0.0, self.deadline - now)

    def record(self, section: str) -> Callable[[dict[str, Any]], None]:
        def add(row: dict[str, Any]) -> None:
            self.journal.add(section, row)
            if row.get("passed") is False:
                print(f"  {section}: {row['name']}: {row.get('reason', 'failed')}", flush=True)

        return add

    def run(self) -> None:
        for backend, why in missing_from(self.device).items():
            self.found(f"backend {backend}", f"not checked: {why}")
        self.correctness(self.end_after(0.42))
        self.checks("ceilings", self.end_after(0.1), {}, COMPILING)
        self.cells("speed", self.end_after(0.35))
        self.cells("comparison", self.end_after(0.55))
        self.checks("training", self.end_after(0.8), {"without": self.dead}, COMPILING)
        self.sanitizer()

    def correctness(self, end: float) -> None:
        """Check each set of kernels in its own process, so that a crash affects no other set."""
        every = [*sets_on(self.device), CHUNKED]
        twin: Kernels | None = None
        for kernels in sorted(every, key=lambda kernels: kernels.compiles):
            request = {"kernels": str(kernels), "twin": twin and str(twin)}
            ending = self.checks("correctness", end, request, kernels.patience)
            if ending.is_fatal:
                self.dead.append(str(kernels))
            elif twin is None and kernels != CHUNKED:
                twin = kernels

    def checks(self, stage: str, end: float, request: dict[str, Any], patience: Patience) -> Ending:
        of = request.get("kernels", "")
        print(f"{stage} {of}".strip(), flush=True)
        request = {"device": self.device, "small": self.small, **request}
        ending = watch_checks(stage, request, patience, end, self.record(stage))
        self.ended(f"stage {stage} {of}".strip(), ending)
        return ending

    def cells(self, stage: str, end: float) -> None:
        print(stage, flush=True)
        request = {"device": self.device, "small": self.small, "without": self.dead}
        for ending in watch_cells(stage, request, COMPILING, end, self.record(stage)):
            self.ended(f"stage {stage}", ending)

    def ended(self, name: str, ending: Ending) -> None:
        if ending.how != DONE:
            self.found(name, str(ending), ending.at)

    def found(self, name: str, reason: str, at: str | None = None) -> None:
        self.journal.add("tools", {"name": name, "reason": reason, "at": at})

    def sanitizer(self) -> None:
        program = shutil.which("compute-sanitizer")
        if program is None or self.device != "cuda":
            self.found("compute-sanitizer", "not here")
            return
        seconds = min(SANITIZER_SECONDS, self.deadline - time.monotonic())
        if seconds < LEAST_SANITIZER_SECONDS:
            self.found("compute-sanitizer", "out of time")
            return
        alive = [kernels for kernels in sets_on("cuda") if str(kernels) not in self.dead]
        self.tools(
            {
                f"{tool} {kernels}": [
                    program, "--tool", tool, "--error-exitcode", "1", sys.executable, "-m",
                    "fastclip.benchmarks.gpu.small_step", str(kernels),
                ]
                for tool in findings.SANITIZERS
                for kernels in alive
            },
            seconds,
        )  # fmt: skip

    def tools(self, commands: dict[str, list[str]], seconds: float) -> None:
        """Run named commands at the same time, and keep the end of their output."""

        def run(name: str) -> dict[str, Any]:
            try:
                done = subprocess.run(
                    commands[name], capture_output=True, text=True, timeout=max(0.1, seconds)
                )
            except (subprocess.TimeoutExpired, OSError) as error:
                return {"name": name, "passed": False, "reason": str(error)[:300]}
            tail = (done.stdout + done.stderr)[-1500:]
            return {"name": name, "passed": done.returncode == 0, "output": tail}

        with ThreadPoolExecutor(max_workers=max(1, len(commands))) as pool:
            for result in pool.map(run, commands):
                self.journal.add("tools", result)


def write_report(path: Path, content: dict[str, Any]) -> None:
    """Write the report next to the results, and the table of `auto` if they are from a GPU."""
    path.with_suffix(".md").write_text(markdown(content))
    if "architecture" in content["host"]:
        verified.write(path.with_name("verified.csv"), verified_rows(content, verified.table()))


def draw_plots(path: Path, content: dict[str, Any]) -> None:
    try:
        for objective in ("clip", "siglip"):
            stem = path.with_name(f"{path.stem}-{objective}")
            save_plots(of_objective(content, objective), stem)
    except ImportError as error:
        print(f"no plots: {error}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make gpu-check", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("build/gpu-results"))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a rehearsal of a few seconds")
    parser.add_argument(
        "--report", type=Path, metavar="RESULTS.json",
        help="measure nothing; write the report, the table and plots of these results",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    if args.report is not None:
        content = json.loads(args.report.read_text())
        write_report(args.report, content)
        draw_plots(args.report, content)
        print(summary(content))
        return 0
    if args.device == "cuda" and not torch.cuda.is_available():
        print("gpu-check: this torch sees no CUDA device", file=sys.stderr)
        return 2

    facts = host.facts() | (host.gpu_facts() if args.device == "cuda" else {})
    # sys.argv would reveal paths of this machine.
    command = f"make gpu-check GPU_OPTIONS='--device {args.device} --seconds {args.seconds:g}'"
    journal = Journal(args.output / "gpu-check.json", command, facts, SECTIONS)
    try:
        Check(journal, args.device, args.seconds, args.small).run()
    finally:
        write_report(journal.path, journal.content)
        print(summary(journal.content), flush=True)
    return 0 if all_correct(journal.content) else 1


def all_correct(content: dict[str, Any]) -> bool:
    """Return whether all checks of correctness, memory, races and training ran and passed."""
    checks = findings.checks(content) + content["training"]
    return bool(checks) and all(row["passed"] is True for row in checks)


if __name__ == "__main__":
    sys.exit(main())
