"""`fastclip verify`: find out which GPU kernels are right on this GPU, and how fast they are.

`benchmarks/gpu/verify` does the work. The verdicts are in a file of the user that backend="auto"
reads (`backends/gpu/own_verdicts.py`).
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
from fastclip.counted import counted
from fastclip.printable import printable_lines

SECONDS = 240.0
DESCRIPTION = """\
Checks every set of kernels that runs on this GPU against float64, and times it against the plain
PyTorch backend 'chunked' and against open_clip's formula. Each set runs in a process of its own, so
that a set that hangs or crashes costs only seconds and counts as failed. The verdicts, one per
dtype and range of D, are written to a file in your cache; from then on backend='auto' takes the
fastest set that is right. Verdicts hold for this GPU, its driver, and the installed
versions and kernels: after an update, run the command again.

The exit status is 0 if every set that ran is right, 1 if one failed, and 2 if none could run.
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
        help="The time for all checks, in seconds. When it is over, no further check begins, and a "
        "set that had no time gets no verdict; a check that hangs at that moment costs up to a "
        "minute more (default: %(default)g, an upper bound: how long a GPU takes has not been "
        "measured).")  # fmt: skip
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--show", action="store_true",
        help="Measure nothing; print the verdicts that exist.")  # fmt: skip
    instead.add_argument("--forget", action="store_true",
        help="Measure nothing; remove the verdicts that exist.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    try:
        if args.show:
            return _show()
        if args.forget:
            print(f"Forgot {counted(own_verdicts.forget(), 'verdict')} in {own_verdicts.path()}.")
            return 0
        objection = _objection_to(args.device)
        if objection is not None:
            return _fail(objection)
        findings = _verify(args.device, args.seconds)
    except OSError as error:
        return _fail(f"the file of verdicts cannot be used: {error}")
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the verdicts found so far are in the file") from None
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
    """Return why nothing can be verified on a device, and what to do; or None."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        return f"--device {device}: {str(error).splitlines()[0]}"
    if kind == "cuda":
        if not torch.cuda.is_available():
            built = torch.version.cuda or torch.version.hip
            why = f"is built for {built} and finds none" if built else "is built for CPUs only"
            return (
                f"there is no GPU here: torch {torch.__version__} {why}. Run this on the machine "
                "that trains, with a torch for its GPU; without a GPU, 'auto' needs no verdicts."
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
