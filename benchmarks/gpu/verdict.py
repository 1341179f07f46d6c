"""Derive verdicts on a set of kernels from the results of checks.

A result is about kernels, a dtype and a class of D (None: all classes); see `correctness.py`. A
failed check counts against these kernels, dtype and class. If the process did not survive a check,
it counts against the whole set, because a kernel that hung once may hang again.
"""

from collections.abc import Iterable
from typing import Any

from fastclip.benchmarks.gpu.kernels import Kernels

# These checks count if they fail; if they did not run, the others decide.
BEYOND = ("agreement", "offsets")

Row = dict[str, Any]
Verdict = tuple[bool | None, str]  # right, wrong or (None) unknown; and the reason in words


def verdict(rows: Iterable[Row], kernels: Kernels, dtype: str, dim: int) -> Verdict:
    """Return whether these kernels are right for features of a dtype and a class of D.

    rows: the results of all checks, including other kernels' checks.
    """
    own = [row for row in rows if row.get("kernels") == str(kernels)]
    about = [row for row in own if row.get("dtype") == dtype and row.get("D") in (None, dim)]
    against = [row for row in own if row.get("fatal")]
    against += [row for row in about if row["passed"] is False and not row.get("fatal")]
    if against:
        more = f" (and {len(against) - 1} more)" if len(against) > 1 else ""
        return False, said(against[0]) + more
    deciding = [row for row in about if row["name"].split()[0] not in BEYOND]
    if not any(row["D"] == dim for row in deciding):
        return None, "was not checked"
    missing = [row for row in deciding if row["passed"] is None]
    if missing:
        return None, f"{len(missing)} of {len(deciding)} checks did not run"
    return True, f"{len(deciding)} of {len(deciding)} checks passed"


def in_all(rows: Iterable[Row], kernels: Kernels) -> Verdict:
    """Return whether every check of these kernels ran and passed."""
    own = [row for row in rows if row.get("kernels") == str(kernels)]
    failed = [row for row in own if row["passed"] is False]
    if not own:
        return None, "did not run"
    if failed:
        return False, ", ".join(row["name"] for row in failed)
    passed = sum(row["passed"] is True for row in own)
    return (True if passed == len(own) else None), f"{passed} of {len(own)}"


def said(row: Row) -> str:
    return f"{row['name']}: {row.get('reason', 'failed')}"
