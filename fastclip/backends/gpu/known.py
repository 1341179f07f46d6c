"""Collect what is known about the GPU kernels for some features, and choose for "auto".

Shipped rows (`verified.py`) are replaced by the user's own rows (`own_verdicts.py`), from `fastclip
verify` or a self-check, if these hold in this process.

    failed                     never taken unless named
    passed, with times         the fastest is taken; `chunked` takes part where it was timed
    passed, without times      taken, in the order of "auto", where none has times
    nothing known              taken only if named, or after a self-check
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
    """The device and features that a verdict is about."""

    device: torch.device
    dtype: str  # "bfloat16", for example
    D: int  # one of `verified.DIMS`
    primitive: str  # one of `own_verdicts.PRIMITIVES`
    planes: int  # `precision.planes_for` the dtype

    def __str__(self) -> str:
        dtype = dtype_words(self.dtype, self.planes)
        return f"{gpu_device.name(self.device)}, {dtype}, {verified.words_for(self.D)}"

    @property
    def may_be_verified(self) -> bool:
        """Whether shipped verdicts and `fastclip verify` cover such products."""
        return self.planes == default_planes(self.dtype)

    @property
    def advice(self) -> str:
        """What the user can do where there is no verdict."""
        if self.may_be_verified:
            return ADVICE
        return (
            f"`fastclip verify` checks {DEFAULT_PRECISION!r} precision only, "
            "and below it these kernels run only if they are named"
        )


def dtype_words(dtype: str, planes: int) -> str:
    """Name a dtype, with the precision of its products if this is not torch's default."""
    if planes == default_planes(dtype):
        return dtype
    return f"{dtype} below {DEFAULT_PRECISION!r} matmul precision"


class Finding(NamedTuple):
    """What is known about one set of kernels, or about the backend they are compared with."""

    passed: bool
    reason: str  # why it failed
    source: str  # one of `own_verdicts.SOURCES`, or "shipped"
    date: str
    N: int | None
    step_ms: float | None

    @property
    def is_timed(self) -> bool:
        return self.passed and self.step_ms is not None


# Verdicts that this process could not write to the file, by key. `forget_choices` clears them for
# tests, and after a change of the kernels that run.
_unwritten: dict[tuple, OwnVerdict] = {}
# The backends that "auto" chose, by request: each is chosen once per process.
choices: dict[tuple, str] = {}


def keep_in_this_process(row: OwnVerdict) -> None:
    _unwritten[row.key] = row


def forget_choices() -> None:
    """Forget all choices and unwritten verdicts: the next call chooses again from the files."""
    _unwritten.clear()
    choices.clear()


def own_rows() -> Iterator[OwnVerdict]:
    written = {row.key: row for row in own_verdicts.read()}
    yield from (written | _unwritten).values()


def findings(kind: Kind, kernels: Mapping[str, str]) -> dict[str, Finding]:
    """Return the findings by backend; a backend about which nothing is known is not in it.

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
    # A check of all primitives counts more than a check of one.
    rows = [row for row in own_rows() if _is_about(row, kind, kernels)]
    for row in sorted(rows, key=lambda row: row.primitive == ""):
        if own_verdicts.is_current(row, kind.device):
            finding = Finding(row.passed, row.reason, row.source, row.date, row.N, row.step_ms)
            before = found.get(row.backend)
            # A backend that passed again, without times, keeps its earlier times.
            if before is None or not before.is_timed or finding.is_timed or not row.passed:
                found[row.backend] = finding
    return found


def best(kernels: Mapping[str, str], found: Mapping[str, Finding]) -> str | None:
    """Return the backend that "auto" takes: one of `kernels`, the rival, or None if unknown."""
    timed = {name: row for name, row in found.items() if row.is_timed}
    # Times from the user's own machine and shipped times are of different batches.
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
    """Say in sentences why "auto" does not take one of `kernels`; return None for the best."""
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
    """Say what changed since an earlier verdict on such a GPU; return "" without a verdict."""
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
