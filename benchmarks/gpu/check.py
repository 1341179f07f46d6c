"""The command: `python -m fastclip.benchmarks.gpu.check --output benchmarks/results`.

Runs the stages one after the other within --seconds, writes everything to
<output>/<gpu>/<date>.json as it comes, and from it a report, <date>.md, with plots, and the table
of `auto`, <date>-verified.csv: to commit it, copy it to fastclip/backends/gpu/verified.csv. Its
exit status is 0 if every check passed.
"""

import argparse
import datetime
import json
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from fastclip.backends.gpu import verified
from fastclip.benchmarks import host
from fastclip.benchmarks.gpu.kernels import kernels_on, missing_from
from fastclip.benchmarks.gpu.report import markdown, of_objective
from fastclip.benchmarks.gpu.table import verified_rows
from fastclip.benchmarks.plots import save_plots

SILENCE_SECONDS = 150.0  # a stage that prints nothing for so long is taken to hang
MAX_RESTARTS = 8
TIMED = ("speed", "comparison")  # stages that are told how long they have
SANITIZER_SECONDS = 70.0


class Check:
    """The results, on disk as they come."""

    def __init__(
        self, path: Path, facts: dict[str, Any], seconds: float, device: str, command: str
    ) -> None:
        self.path, self.device = path, device
        self.deadline = time.monotonic() + seconds
        self.content = {
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "command": command,
            "host": facts,
            "correctness": [], "ceilings": [], "speed": [], "training": [], "comparison": [],
            "tools": [],
        }  # fmt: skip

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def add(self, section: str, result: dict[str, Any]) -> None:
        self.content[section].append(result)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(json.dumps(self.content, indent=1) + "\n")
        unfinished.replace(self.path)

    def stage(self, name: str, seconds: float, **request: Any) -> None:
        """Run a stage for at most so long; what takes it down is skipped when it starts again."""
        end = time.monotonic() + min(seconds, self.left())
        skip: list[str] = []
        groups: list[str] = []
        finished: set[str] = set()
        for _ in range(MAX_RESTARTS):
            if name in TIMED:
                request |= {"seconds": end - time.monotonic() - 10.0}
            if name == "comparison":
                request |= {"done": groups}
            current, ended_well = None, False
            for line in self._lines(name, {"device": self.device, "skip": skip, **request}, end):
                if line is None:
                    ended_well = True
                elif "start" in line:
                    current = line["start"]
                    print(f"  {name}: {current}", file=sys.stderr)
                elif "group" in line:
                    groups.append(line["group"])
                elif "result" in line and line["key"] not in finished:
                    finished.add(line["key"])
                    self.add(name, line["result"])
            if ended_well:
                return
            if time.monotonic() > end or current is None:
                reason = "out of time" if time.monotonic() > end else "did not start"
                self.add("tools", {"name": f"stage {name}", "reason": reason, "at": current})
                return
            self.add("tools", {"name": f"stage {name}", "reason": "taken down", "at": current})
            if current not in finished and name != "comparison":
                self.add(
                    name, {"name": current, "passed": False, "reason": "took the process down"}
                )
            skip += [current, *finished] if name != "comparison" else [current]
        self.add("tools", {"name": f"stage {name}", "reason": "given up", "at": skip[-1]})

    def _lines(self, name: str, request: dict, end: float) -> Iterator[dict | None]:
        """The lines of a stage's process; None last if it ended well, which it must not miss."""
        process = subprocess.Popen(
            [sys.executable, "-m", "fastclip.benchmarks.gpu.worker", name, json.dumps(request)],
            stdout=subprocess.PIPE,
            text=True,
        )
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            while True:
                wait = min(SILENCE_SECONDS, end - time.monotonic())
                try:
                    line = lines.get(timeout=max(0.1, wait))
                except queue.Empty:
                    return
                if line is None:
                    if process.wait() == 0:
                        yield None
                    return
                if line.startswith("{"):
                    yield json.loads(line)
        finally:
            process.kill()
            process.wait()
            reader.join()
            process.stdout.close()

    def tools(self, commands: dict[str, list[str]], seconds: float) -> None:
        """Run commands beside each other, by name; keep the end of what they say."""

        def run(name: str) -> dict[str, Any]:
            try:
                done = subprocess.run(
                    commands[name], capture_output=True, text=True,
                    timeout=max(0.1, min(seconds, self.left())),
                )  # fmt: skip
            except (subprocess.TimeoutExpired, OSError) as error:
                return {"name": name, "passed": False, "reason": str(error)[:300]}
            tail = (done.stdout + done.stderr)[-1500:]
            return {"name": name, "passed": done.returncode == 0, "output": tail}

        with ThreadPoolExecutor(max_workers=max(1, len(commands))) as pool:
            for result in pool.map(run, commands):
                self.add("tools", result)


def write_report(path: Path, content: dict[str, Any], plots: bool) -> None:
    """Beside the results at `path`; and the table of `auto`, if they are a GPU's."""
    report = path.with_suffix(".md")
    report.write_text(markdown(content))
    print(report.read_text())
    if "architecture" in content["host"]:
        table = path.with_name(f"{path.stem}-verified.csv")
        verified.write(table, verified_rows(content, verified.table()))
    if not plots:
        return
    try:
        for objective in ("clip", "siglip"):
            stem = path.with_name(f"{path.stem}-{objective}")
            save_plots(of_objective(content, objective), stem)
    except ImportError as error:
        print(f"no plots: {error}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make gpu-check", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--seconds", type=float, default=520.0, help="for everything")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a rehearsal, of seconds")
    parser.add_argument("--plots", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--report", type=Path, metavar="RESULTS.json",
        help="measure nothing: write the report and the plots of these results",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    if args.report is not None:
        write_report(args.report, json.loads(args.report.read_text()), args.plots)
        return 0
    if args.device == "cuda" and not torch.cuda.is_available():
        print("gpu-check: this torch sees no CUDA device", file=sys.stderr)
        return 2

    facts, name = host.facts(), "rehearsal"
    if args.device == "cuda":
        facts, name = facts | host.gpu_facts(), host.gpu_name()
    stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    # Not sys.argv, which says where this machine keeps things.
    command = f"make gpu-check GPU_OPTIONS='--device {args.device} --seconds {args.seconds:g}'"
    path = args.output / name / f"{stamp}.json"
    check = Check(path, facts, args.seconds, args.device, command)
    try:
        _run_stages(check, args.small)
    finally:
        write_report(check.path, check.content, args.plots)
    return 0 if _all_correct(check.content) else 1


def _all_correct(content: dict[str, Any]) -> bool:
    """Every check of correctness ran, and passed, those of training included."""
    stages = {"stage correctness", "stage training"}
    cut_short = any(row["name"] in stages for row in content["tools"])
    checks = content["correctness"] + content["training"]
    return bool(checks) and not cut_short and all(row["passed"] for row in checks)


def _run_stages(check: Check, small: bool) -> None:
    for backend, why in missing_from(check.device).items():
        check.add("tools", {"name": f"backend {backend}", "reason": f"not checked: {why}"})
    check.stage("correctness", 0.35 * check.left(), small=small)
    check.stage("ceilings", 0.15 * check.left(), small=small)
    check.stage("speed", 0.35 * check.left(), small=small)
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer and check.device == "cuda":
        check.tools(_sanitized_steps(sanitizer), SANITIZER_SECONDS)
    else:
        check.add("tools", {"name": "compute-sanitizer", "reason": "not here"})
    check.stage("training", 0.3 * check.left(), small=small)
    check.stage("comparison", check.left(), small=small)


def _sanitized_steps(sanitizer: str) -> dict[str, list[str]]:
    """By tool and kernels; the first decides what is verified."""
    return {
        f"{tool} {kernels}": [
            sanitizer, "--tool", tool, "--error-exitcode", "1", sys.executable, "-m",
            "fastclip.benchmarks.gpu.small_step", str(kernels),
        ]
        for tool in ("memcheck", "racecheck")
        for kernels in kernels_on("cuda", torch.bfloat16)
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
