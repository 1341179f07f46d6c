"""Watch the processes of `measure.py`, derive verdicts from their results, and record them."""

import datetime
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from fastclip.backends.gpu import own_verdicts
from fastclip.backends.gpu.own_verdicts import OwnVerdict
from fastclip.backends.gpu.precision import default_planes
from fastclip.backends.gpu.verified import DIMS, DTYPES
from fastclip.benchmarks.gpu.kernels import CHUNKED, Kernels, sets_on
from fastclip.benchmarks.gpu.verdict import Row, verdict
from fastclip.benchmarks.gpu.verify.measure import EAGER
from fastclip.benchmarks.gpu.watched import watch_checks

REASON_CHARACTERS = 400


class Finding(NamedTuple):
    """What was found out about kernels, for a dtype and a class of D.

    is_right: None if the time ran out before that was known.
    N, ms: the number of pairs that were timed, and [forward, step] in milliseconds by name.
    """

    kernels: Kernels
    dtype: str
    D: int
    is_right: bool | None
    reason: str
    N: int | None
    ms: dict[str, list[float]]

    def times_of(self, name: str) -> dict[str, Any]:
        """Return the times for a verdict; none if the clock was too coarse to distinguish them."""
        forward, step = self.ms.get(name, (0.0, 0.0))
        if not 0.0 < forward < step:
            return {}
        return {"N": self.N, "forward_ms": forward, "step_ms": step}


def verify(device: str, seconds: float, say: Callable[[Row], None]) -> list[Finding]:
    """Measure every set of kernels on this device and record the verdicts, a set at a time.

    Args:
        device: "cuda", or one of several as torch names it.
        seconds: the limit for everything; kernels for which no time is left get no verdict.
        say: called with every result.

    Raises:
        OSError: the user's file cannot be written.
    """
    end, findings = time.monotonic() + seconds, []
    every = sets_on(torch.device(device).type)
    for index, kernels in enumerate(every):
        now, rows = time.monotonic(), []

        def record(row: Row, rows: list[Row] = rows) -> None:
            rows.append(row)
            say(row)

        request = {"device": device, "kernels": str(kernels)}
        share = now + (end - now) / (len(every) - index)
        watch_checks("verify.measure", request, kernels.patience, share, record)
        found = findings_of(kernels, rows)
        own_verdicts.record(verdicts(found, torch.device(device)))
        findings += found
    return findings


def findings_of(kernels: Kernels, rows: list[Row]) -> list[Finding]:
    """Return a finding for everything that was to be checked, or that failed with the process.

    If the time ran out before the process announced its checks, that is every dtype and class.
    """
    every = []
    has_plan = any("dtype" in row for row in rows)
    for dtype in DTYPES:
        for D in DIMS:
            about = [row for row in rows if (row.get("dtype"), row.get("D")) == (dtype, D)]
            is_right, reason = verdict(rows, kernels, dtype, D)
            if about or is_right is not None or not has_plan:
                timed = next((row for row in about if "ms" in row), {})
                found = reason[:REASON_CHARACTERS], timed.get("N"), timed.get("ms", {})
                every.append(Finding(kernels, dtype, D, is_right, *found))
    return every


def verdicts(findings: list[Finding], device: torch.device) -> Iterator[OwnVerdict]:
    """Yield the verdicts for the user's file, on the kernels and on their rivals."""
    today = datetime.date.today().isoformat()

    def row(backend: str, variant: str, of: Finding, reason: str = "", **times: Any) -> OwnVerdict:
        environment = own_verdicts.environment(backend, device)
        passed = reason == ""
        return OwnVerdict(
            environment, backend, variant, of.dtype, of.D, passed, reason, "verify", today,
            planes=default_planes(of.dtype), **times,
        )  # fmt: skip

    for finding in findings:
        kernels = finding.kernels
        names = kernels.backend, kernels.variant
        if finding.is_right is False:
            yield row(*names, finding, finding.reason)
        elif finding.is_right:
            yield row(*names, finding, **finding.times_of(str(kernels)))
        for rival in (str(CHUNKED), EAGER):
            if times := finding.times_of(rival):
                yield row(rival, "", finding, **times)
