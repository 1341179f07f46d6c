"""A row of the user's file of verdicts (`own_verdicts.py`) on kernels."""

import datetime
import math
from dataclasses import dataclass
from typing import Any

from fastclip.backends.gpu.environment import Environment
from fastclip.backends.gpu.precision import default_planes
from fastclip.backends.gpu.verified import DIMS, DTYPES, KERNELS, require

SOURCES = ("verify", "self-check", "begun")
PRIMITIVES = ("contrastive_lse", "siglip_sum", "siglip_total")
# Kernels are compared with these: the backend that runs anywhere, and open_clip's formula.
RIVALS = (("chunked", ""), ("eager", ""))


@dataclass(frozen=True)
class OwnVerdict:
    """One row of the file. Raises ValueError if a value is invalid.

    Args:
        environment: the environment in which the verdict holds.
        backend, variant: the kernels (`verified.KERNELS`), or a rival (RIVALS).
        dtype: the dtype of the features, such as "bfloat16".
        D: the class of D, one of `verified.DIMS`.
        passed: whether the results were correct.
        reason: what was wrong, in words; empty if the check passed.
        source: "verify" or "self-check", whichever made the check; "begun" is a self-check that has
            not ended.
        date: the day, in ISO format.
        N: the number of pairs that was timed, or None.
        forward_ms, step_ms: medians at N pairs of the forward, and of forward and backward.
        primitive: the one of PRIMITIVES that was checked; empty means all.
        planes: `precision.planes_for` the dtype at the matmul precision that was checked.
    """

    environment: Environment
    backend: str
    variant: str
    dtype: str
    D: int
    passed: bool
    reason: str
    source: str
    date: str
    N: int | None = None
    forward_ms: float | None = None
    step_ms: float | None = None
    primitive: str = ""
    planes: int = 1

    def __post_init__(self) -> None:
        times = self.N, self.forward_ms, self.step_ms
        require(self, (
            (isinstance(self.environment, Environment), "environment"),
            ((self.backend, self.variant) in KERNELS + RIVALS, "backend"),
            (self.dtype in DTYPES, "dtype"),
            (type(self.D) is int and self.D in DIMS, "D"),
            (type(self.passed) is bool, "passed"),
            (isinstance(self.reason, str) and self.passed == (self.reason == ""), "reason"),
            (self.source in SOURCES and not (self.passed and self.source == "begun"), "source"),
            (isinstance(self.date, str) and datetime.date.fromisoformat(self.date), "date"),
            (self.passed or times == (None, None, None), "N"),
            (times == (None, None, None) or _are_times(*times), "forward_ms"),
            (self.primitive == "" or self.primitive in PRIMITIVES, "primitive"),
            (type(self.planes) is int and 1 <= self.planes <= default_planes(self.dtype), "planes"),
        ))  # fmt: skip

    @property
    def kernels(self) -> tuple[str, str]:
        return self.backend, self.variant

    @property
    def key(self) -> tuple:
        """The values that identify a row: the file has one row for each key."""
        return self.environment, *self.kernels, self.dtype, self.D, self.primitive, self.planes


def parsed(values: Any) -> OwnVerdict | None:
    """Return the row of a JSON object; None if it is none, as from another version of fastclip."""
    try:
        return OwnVerdict(**values | {"environment": Environment(**values["environment"])})
    except (ValueError, TypeError, KeyError):
        return None


def _are_times(N: Any, forward_ms: Any, step_ms: Any) -> bool:
    are_numbers = type(N) is int and all(isinstance(x, float) for x in (forward_ms, step_ms))
    return are_numbers and N > 0 and 0.0 < forward_ms < step_ms < math.inf
