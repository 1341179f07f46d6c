"""`fastclip verify`: which kernels for a GPU are right on this one, and how fast.

The work is in `benchmarks/gpu/verify`, the verdicts in the user's file that backend="auto" reads
(`backends/gpu/own_verdicts.py`).
"""

import argparse
import math
import sys

import torch

from fastclip.backends.gpu import device as gpu_device
from fastclip.backends.gpu import own_verdicts
from fastclip.benchmarks.gpu.kernels import missing_from, sets_on
from fastclip.benchmarks.gpu.verify import words
from fastclip.benchmarks.gpu.verify.verification import Finding, verify
from fastclip.printable import printable_lines

SECONDS = 240.0
DESCRIPTION = """\
Checks every set of kernels that runs on this GPU against float64, and times it against the plain
PyTorch backend 'chunked' and against open_clip's formula. Each set runs in a process of its own,
so that one that hangs or crashes costs seconds and fails. The verdicts, one per dtype and range of
D, are written to a file of yours; from then on backend='auto' takes the fastest set that is right.
They hold for this GPU, its driver, these versions and these kernels: after an update, run it again.

The exit status is 0 if all that ran is right, 1 if something failed, and 2 if nothing could run.
"""
EPILOG = """\
for example
    fastclip verify
    fastclip verify --device cuda:1 --seconds 120
    fastclip verify --show
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("--device", default="cuda", metavar="DEVICE",
        help="The GPU, as torch names it, for example cuda:1 (default: %(default)s).")  # fmt: skip
    parser.add_argument("--seconds", type=_seconds, default=SECONDS, metavar="S",
        help="How long everything may take. After that nothing more begins, and what has no time "
        "left has no verdict; a check that hangs by then costs up to a minute more (default: "
        "%(default)g, an upper bound: how long a GPU takes has not been measured).")  # fmt: skip
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--show", action="store_true",
        help="Measure nothing, and print the verdicts that are there.")  # fmt: skip
    instead.add_argument("--forget", action="store_true",
        help="Measure nothing, and remove the verdicts that are there.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    try:
        if args.show:
            return _show()
        if args.forget:
            print(f"Forgot {own_verdicts.forget()} verdicts in {own_verdicts.path()}.")
            return 0
        objection = _objection_to(args.device)
        if objection is not None:
            return _fail(objection)
        findings = _verify(args.device, args.seconds)
    except OSError as error:
        return _fail(f"the file of verdicts cannot be used: {error}")
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what was found is in the file") from None
    verdicts = {finding.is_right for finding in findings}
    if not verdicts & {True, False}:
        return _fail(f"--seconds {args.seconds:g} left no time for a verdict")
    print(words.conclusion(findings))
    return 1 if False in verdicts else 0


def _verify(device: str, seconds: float) -> list[Finding]:
    kind = torch.device(device).type
    for backend, why in missing_from(kind).items():
        print(f"{backend} is not verified: {why}.")
    names, where = ", ".join(map(str, sets_on(kind))), gpu_device.name(torch.device(device))
    print(f"Verifying {names} on {where}, for at most {seconds:g} s.", flush=True)

    def say(row: dict) -> None:
        line = words.progress(row)
        if line is not None:
            print(line, flush=True)

    return verify(device, seconds, say)


def _show() -> int:
    rows = own_verdicts.read()
    if not rows:
        print(
            f"There are no verdicts in {own_verdicts.path()}; on a machine with a GPU, "
            "`fastclip verify` writes them."
        )
        return 0
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{own_verdicts.path()}\n{words.table(rows, device)}")
    return 0


def _objection_to(device: str) -> str | None:
    """Why nothing can be verified there, and what to do."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        return f"--device {device}: {str(error).splitlines()[0]}"
    if kind == "cuda":
        if not torch.cuda.is_available():
            built = torch.version.cuda or torch.version.hip
            why = f"is built for {built} and finds none" if built else "is built for CPUs alone"
            return (
                f"there is no GPU here: torch {torch.__version__} {why}. Run it on the machine "
                "that trains, with a torch for its GPU; without one, 'auto' needs no verdicts."
            )
        if (torch.device(device).index or 0) >= torch.cuda.device_count():
            return f"--device {device}: torch finds {torch.cuda.device_count()} GPU(s)"
    if not sets_on(kind):
        reasons = "; ".join(f"{name}: {why}" for name, why in missing_from(kind).items())
        return f"no kernels for a GPU run on {device} ({reasons})"
    return None


def _fail(reason: str) -> int:
    print(f"fastclip verify: {printable_lines(reason)}", file=sys.stderr)
    return 2


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {text!r}")
    return value
