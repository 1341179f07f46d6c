"""The texts of `fastclip verify`: progress, conclusions, and a table of verdicts."""

from collections.abc import Iterable, Iterator

import torch

from fastclip.backends.gpu import own_verdicts
from fastclip.backends.gpu.known import dtype_words
from fastclip.backends.gpu.own_verdicts import OwnVerdict
from fastclip.backends.gpu.verified import DIMS, words_for
from fastclip.benchmarks.gpu.kernels import CHUNKED, Kernels
from fastclip.benchmarks.gpu.verdict import Row, said
from fastclip.benchmarks.gpu.verify.measure import EAGER
from fastclip.benchmarks.gpu.verify.verification import Finding

COMMAND = "fastclip verify"


def progress(row: Row) -> str | None:
    """Return a line for a failure or for a finished dtype and class of D; otherwise None."""
    if row["passed"] is False:
        return f"  FAILED: {said(row)}"
    if "ms" not in row:
        return None
    times = ", ".join(f"{name} {step:.3f} ms" for name, (_, step) in row["ms"].items())
    what = f"{row['kernels']}, {row['dtype']}, {words_for(row['D'])}"
    return f"  {what}: a step of {row['N']:,} pairs: {times}"


def conclusion(findings: list[Finding]) -> str:
    """Return sentences about every set of kernels."""
    lines = []
    for kernels in dict.fromkeys(finding.kernels for finding in findings):
        own = [finding for finding in findings if finding.kernels == kernels]
        lines += _about(kernels, own)
    lines.append(
        f"The verdicts are in {own_verdicts.path()}: backend='auto' reads them in every process "
        f"that starts from now on. `{COMMAND} --show` prints them and `--forget` removes them."
    )
    return "\n".join(lines)


def _about(kernels: Kernels, findings: list[Finding]) -> Iterator[str]:
    right = [finding for finding in findings if finding.is_right]
    wrong = [finding for finding in findings if finding.is_right is False]
    unknown = [finding for finding in findings if finding.is_right is None]
    if right:
        yield f"{kernels} is right for {_kinds(right)}{_compared(right)}."
    reasons = {finding.reason: None for finding in wrong}
    for reason in reasons:
        same = [finding for finding in wrong if finding.reason == reason]
        yield f"{kernels} FAILED for {_kinds(same)}, and backend='auto' will not use it: {reason}."
    if unknown:
        yield (
            f"{kernels} has no verdict for {_kinds(unknown)}, because the time ran out: "
            f"`{COMMAND} --seconds` gives it more time."
        )


def _kinds(findings: list[Finding]) -> str:
    """Return a text such as "bfloat16 (every D) and float32 (D up to 512)"."""
    by_dtype: dict[str, list[int]] = {}
    for finding in findings:
        by_dtype.setdefault(finding.dtype, []).append(finding.D)
    return " and ".join(
        f"{dtype} ({'every D' if len(dims) == len(DIMS) else ', '.join(map(words_for, dims))})"
        for dtype, dims in by_dtype.items()
    )


def _compared(findings: list[Finding]) -> str:
    """Say how the time of a step compares with the rivals' times, from least to most."""
    parts = []
    for rival in (str(CHUNKED), EAGER):
        ratios = [
            finding.ms[str(finding.kernels)][1] / finding.ms[rival][1]
            for finding in findings
            if {rival, str(finding.kernels)} <= finding.ms.keys()
        ]
        if ratios:
            parts.append(f"{min(ratios):.2f} to {max(ratios):.2f} of the time of {rival}")
    return f"; a step takes {' and '.join(parts)}" if parts else ""


def table(rows: Iterable[OwnVerdict], device: torch.device) -> str:
    """List every verdict of the user's file, and whether it holds here on this device."""
    header = "device", "kernels", "dtype", "D", "verdict", "forward, step", "date", "holds here"
    lines = [header]
    for row in rows:
        times = "" if row.N is None else f"{row.forward_ms:.3f}, {row.step_ms:.3f} ms"
        lines.append(
            (
                row.environment.device, "-".join(filter(None, row.kernels)),
                dtype_words(row.dtype, row.planes), words_for(row.D),
                "right" if row.passed else "FAILED", times, row.date,
                "yes" if own_verdicts.is_current(row, device) else "no, stale",
            )
        )  # fmt: skip
        if not row.passed:
            lines.append((f"    {row.reason}",))
    widths = [max(len(line[i]) for line in lines if len(line) > 1) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip()
        if len(line) > 1
        else line[0]
        for line in lines
    )
