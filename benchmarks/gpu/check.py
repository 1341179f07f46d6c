"""The command: `python -m fastclip.benchmarks.gpu.check --output benchmarks/results`.

Runs the stages one after the other within --seconds, writes everything to
<output>/<gpu>/<date>.json as it comes, and from it a report, <date>.md, with plots. Its exit status
is 0 if every check passed.
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
from pathlib import Path
from typing import Any

import torch

from fastclip.benchmarks import host
from fastclip.benchmarks.gpu.report import markdown, of_objective
from fastclip.benchmarks.plots import save_plots

SILENCE_SECONDS = 150.0  # a stage that prints nothing for so long is taken to hang
MAX_RESTARTS = 8


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
            "correctness": [], "ceilings": [], "training": [], "comparison": [], "tools": [],
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
            if name == "comparison":
                request |= {"seconds": end - time.monotonic() - 10.0, "done": groups}
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

    def tool(self, name: str, command: list[str], seconds: float) -> None:
        """Run a command; keep the end of what it says."""
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=min(seconds, self.left())
            )
        except (subprocess.TimeoutExpired, OSError) as error:
            self.add("tools", {"name": name, "passed": False, "reason": str(error)[:300]})
            return
        tail = (done.stdout + done.stderr)[-1500:]
        self.add("tools", {"name": name, "passed": done.returncode == 0, "output": tail})


def write_report(path: Path, content: dict[str, Any], plots: bool) -> None:
    """Beside the results at `path`."""
    report = path.with_suffix(".md")
    report.write_text(markdown(content))
    print(report.read_text())
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
    check.stage("correctness", 0.35 * check.left(), small=small)
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer and check.device == "cuda":
        step = [sys.executable, "-m", "fastclip.benchmarks.gpu.small_step"]
        check.tool("memcheck", [sanitizer, "--error-exitcode", "1", *step], 45.0)
        racecheck = [sanitizer, "--tool", "racecheck", "--error-exitcode", "1", *step]
        check.tool("racecheck", racecheck, 45.0)
    else:
        check.add("tools", {"name": "compute-sanitizer", "reason": "not here"})
    check.stage("ceilings", 0.15 * check.left(), small=small)
    check.stage("training", 0.3 * check.left(), small=small)
    check.stage("comparison", check.left(), small=small)


if __name__ == "__main__":
    sys.exit(main())
