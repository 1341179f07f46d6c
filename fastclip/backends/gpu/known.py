"""What is known of the GPU kernels for features of a kind, and what follows for "auto".

Shipped rows (`verified.py`) come first; the user's own (`own_verdicts.py`), of `fastclip verify` or
of a self-check, take their place where they hold in this process.

    failed                     never taken unasked
    passed, with times         the fastest is taken; `chunked` is one of them where it was timed
    passed, without times      taken, in the order of "auto", where none has times
    nothing known              taken by name only, or after a self-check
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch

from fastclip.backends.gpu import device as gpu_device
from fastclip.backends.gpu import own_verdicts, verified
from fastclip.backends.gpu.own_verdicts import OwnVerdict
from fastclip.backends.gpu.precision import DEFAULT_PRECISION, default_planes

VERIFY = "`fastclip verify` (a few minutes at most)"  # four by default; nobody has measured it
ADVICE = f"run {VERIFY}"
CHECKS_AGAIN = f"{VERIFY} checks it again"
FORGETS = "`fastclip verify --forget` has it checked again"
RIVAL = "chunked"


class Kind(NamedTuple):
    """What a verdict is about, besides kernels."""

    device: torch.device
    dtype: str  # "bfloat16", for example
    D: int  # of `verified.DIMS`
    primitive: str  # of `own_verdicts.PRIMITIVES`
    planes: int  # `precision.planes_for` the dtype

    def __str__(self) -> str:
        dtype = dtype_words(self.dtype, self.planes)
        return f"{gpu_device.name(self.device)}, {dtype}, {verified.words_for(self.D)}"

    @property
    def may_be_verified(self) -> bool:
        """Whether shipped verdicts and `fastclip verify` are about such products."""
        return self.planes == default_planes(self.dtype)

    @property
    def advice(self) -> str:
        """What to do where there is no verdict."""
        if self.may_be_verified:
            return ADVICE
        return (
            f"`fastclip verify` checks {DEFAULT_PRECISION!r} precision only, "
            "and below it these kernels run only if they are named"
        )


def dtype_words(dtype: str, planes: int) -> str:
    """A dtype, with the precision of its products where it is not torch's default."""
    if planes == default_planes(dtype):
        return dtype
    return f"{dtype} below {DEFAULT_PRECISION!r} matmul precision"


class Finding(NamedTuple):
    """What is known of one set of kernels, or of the backend that they are compared with."""

    passed: bool
    reason: str  # why it did not
    source: str  # of `own_verdicts.SOURCES`, or "shipped"
    date: str
    N: int | None
    step_ms: float | None

    @property
    def is_timed(self) -> bool:
        return self.passed and self.step_ms is not None


# What this process found out and could not write to the file, by key; for tests, and after a
# change of what runs, there is `forget_choices`.
_unwritten: dict[tuple, OwnVerdict] = {}
# What "auto" took, by what it was asked for: asked once per process.
choices: dict[tuple, str] = {}


def keep_in_this_process(row: OwnVerdict) -> None:
    _unwritten[row.key] = row


def forget_choices() -> None:
    """The next call asks anew, and this process knows only what is written."""
    _unwritten.clear()
    choices.clear()


def own_rows() -> Iterator[OwnVerdict]:
    written = {row.key: row for row in own_verdicts.read()}
    yield from (written | _unwritten).values()


def findings(kind: Kind, kernels: Mapping[str, str]) -> dict[str, Finding]:
    """By backend; nothing is said of one of which nothing is known.

    Args:
        kernels: the backends for a GPU that would run if named, and the variant of each.
    """
    architecture = gpu_device.architecture(kind.device)
    found = {
        row.backend: Finding(True, "", "shipped", row.date, row.N, row.step_ms)
        for row in verified.table()
        if (row.architecture, row.dtype, row.D) == (architecture, kind.dtype, kind.D)
        and row.kernels in kernels.items()
        and kind.may_be_verified
    }
    # What all primitives were checked for counts more than what one was.
    rows = [row for row in own_rows() if _is_about(row, kind, kernels)]
    for row in sorted(rows, key=lambda row: row.primitive == ""):
        if own_verdicts.is_current(row, kind.device):
            finding = Finding(row.passed, row.reason, row.source, row.date, row.N, row.step_ms)
            before = found.get(row.backend)
            # One that passed again keeps its times.
            if before is None or not before.is_timed or finding.is_timed or not row.passed:
                found[row.backend] = finding
    return found


def best(kernels: Mapping[str, str], found: Mapping[str, Finding]) -> str | None:
    """The backend that "auto" takes by what is known: of `kernels`, the rival, or None if none."""
    timed = {name: row for name, row in found.items() if row.is_timed}
    # Times of the user's own machine and shipped ones are of different batches.
    for is_own in (True, False):
        group = {name: row for name, row in timed.items() if (row.source != "shipped") == is_own}
        sizes = [row.N for name, row in group.items() if name in kernels]
        if sizes:
            at_size = {name: row for name, row in group.items() if row.N == max(sizes)}
            return min(at_size, key=lambda name: (at_size[name].step_ms, name not in kernels))
    return next((name for name in kernels if name in found and found[name].passed), None)


def reason_against(
    name: str, kind: Kind, kernels: Mapping[str, str], found: Mapping[str, Finding]
) -> str | None:
    """Why "auto" does not take one of `kernels`, in sentences; None for the best."""
    here = f"on this GPU ({kind})"
    if name not in found:
        return (
            f"The backend '{name}' would run here, but nothing has verified it {here}"
            f"{_stale(name, kind, kernels)}; {kind.advice}."
        )
    row = found[name]
    if row.source == "begun":
        return (
            f"A check of the backend '{name}' {here} began on {row.date} and has not ended: it "
            f"still runs in another process, or it crashed or was stopped; "
            f"{ADVICE if kind.may_be_verified else FORGETS}."
        )
    if not row.passed:
        return (
            f"The backend '{name}' failed its check {here} on {row.date}: {row.reason}. "
            f"{CHECKS_AGAIN if kind.may_be_verified else FORGETS}."
        )
    taken = best(kernels, found)
    if taken == name:
        return None
    if not (row.is_timed and found[taken].N == row.N):
        return f"The backend '{name}' is correct {here}, but '{taken}' comes first."
    return (
        f"The backend '{name}' is correct {here}, but '{taken}' is faster: a step of {row.N} pairs "
        f"takes {row.step_ms:.4g} ms against {found[taken].step_ms:.4g} ms, measured on {row.date}."
    )


def _is_about(row: OwnVerdict, kind: Kind, kernels: Mapping[str, str]) -> bool:
    return (
        (row.kernels in kernels.items() or row.kernels == (RIVAL, ""))
        and (row.dtype, row.D, row.planes) == (kind.dtype, kind.D, kind.planes)
        and row.primitive in ("", kind.primitive)
    )


def _stale(name: str, kind: Kind, kernels: Mapping[str, str]) -> str:
    """What to add where there is a verdict of before, in another environment on such a GPU."""
    device = gpu_device.name(kind.device)
    of_before = [
        row
        for row in own_rows()
        if row.backend == name
        and _is_about(row, kind, kernels)
        and row.environment.device == device
    ]
    if not of_before:
        return ""
    row = of_before[-1]
    now = own_verdicts.environment(name, kind.device)
    changed = " and ".join(row.environment.differences(now))
    return f" since {changed} changed (the last verdict is from {row.date})"
