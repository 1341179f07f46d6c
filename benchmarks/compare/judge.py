"""Decide which rows of two results can be compared, and what the comparison says."""

from collections.abc import Callable
from typing import NamedTuple

from fastclip.benchmarks import host
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.compare.intervals import (
    LEAST_BETWEEN,
    LEAST_WITHIN,
    Interval,
    between_runs,
    within_run,
)
from fastclip.benchmarks.results import FAMILY, Results, Row
from fastclip.benchmarks.step import PRODUCTS
from fastclip.benchmarks.timing import floor_flops

SLOWER, FASTER, UNCLEAR = "slower", "faster", "cannot tell"
ALLOWED, NOISE = "not slower", "within noise"  # with a limit; without one
# If these facts of the hosts differ, times cannot be compared, and the report says so.
MACHINE = ("cpu", "isa", "gpu", "threads", "torch", *host.THREAD_SETTINGS)
ABSENT = "it has no such row"


class Key(NamedTuple):
    """The properties that must be equal for two rows to be compared."""

    provider: str
    what: str
    case: Case

    def __str__(self) -> str:
        return f"{self.provider}{'' if self.what == 'step' else f', {self.what}'} on {self.case}"


class Compared(NamedTuple):
    """A row of B compared with one of A. Without `interval`, `verdict` is UNCLEAR for `reason`."""

    key: Key
    before: Row
    after: Row
    interval: Interval | None
    verdict: str
    reason: str | None = None


class Comparison(NamedTuple):
    compared: list[Compared]
    only_before: dict[Key, str]  # timed in the first run only, and the reason
    only_after: list[Key]
    differences: list[str]  # of the machines
    untimed: dict[Key, str]  # what a provider of the same run has instead of a time

    def with_verdict(self, verdict: str) -> list[Compared]:
        return [one for one in self.compared if one.verdict == verdict]


def verdict_of(interval: Interval, limit: float | None) -> str:
    """Return the verdict on an interval of time ratios, B over A.

    Args:
        limit: the fraction by which B may be slower; None to ask for any difference.

    Returns:
        SLOWER or FASTER if the whole interval is. Otherwise, with a limit, ALLOWED if no part of
        the interval is slower than the limit, and UNCLEAR if some part is; without a limit, NOISE.

    Example:
        >>> verdict_of(Interval(1.2, 1.1, 1.3), limit=0.05)
        'slower'
    """
    if not interval.is_known:
        return UNCLEAR
    if interval.low > 1 + (limit or 0.0):
        return SLOWER
    if interval.high < 1:
        return FASTER
    if limit is None:
        return NOISE
    return ALLOWED if interval.high <= 1 + limit else UNCLEAR


def compare_runs(before: Results, after: Results, limit: float | None = None) -> Comparison:
    """Compare rows that two runs have in common, by time over the matmul of the same round.

    Times of two runs are divided by the matmul's time in the same rounds, because the machine may
    have been slower as a whole in one run. Results of a family of losses can be compared too. With
    a limit, no row is ALLOWED if the machines differ: such a row is UNCLEAR.

    Args:
        before, after: results of the same objective.
        limit: the fraction by which `after` may be slower; None to ask for any difference.

    Raises:
        ValueError: the objectives differ, or the results have no timed row in common.
    """
    if before.objective != after.objective:
        raise ValueError(
            f"results of {before.objective!r} and of {after.objective!r} cannot be compared"
        )
    rows_before, rows_after = (timed_rows(results) for results in (before, after))
    common = [key for key in rows_before if key in rows_after]
    reasons = {_key(row): row.reason for row in after.rows}
    gone = {key: reasons.get(key) or ABSENT for key in rows_before if key not in rows_after}
    if not common:
        told = "".join(f"; in the second, {key}: {reason}" for key, reason in gone.items())
        raise ValueError(f"no provider is timed on the same case in both{told}")
    compared = [
        _compared(key, rows_before[key], rows_after[key], limit, _of_floor, between_runs)
        for key in common
    ]
    differences = _differences(before, after)
    if differences and limit is not None:
        compared = [_of_other_machines(one) for one in compared]
    alone = [key for key in rows_after if key not in rows_before]
    return Comparison(compared, gone, alone, differences, {})


def compare_providers(results: Results, base: str, limit: float | None = None) -> Comparison:
    """Compare all providers of a run with one of them, round by round.

    Args:
        base: the name of the provider that the others are compared with.
        limit: the fraction by which they may be slower; None to ask for any difference.

    Raises:
        ValueError: `base` is not timed, or there is no other provider.
    """
    if results.objective == FAMILY:
        raise ValueError("--base: results of several losses cannot be compared with each other")
    rows = timed_rows(results)
    names = dict.fromkeys(key.provider for key in rows)
    if base not in names:
        raise ValueError(
            f"--base: {base!r} is not timed; the timed providers are {', '.join(names)}"
        )
    compared, alone = [], []
    for key, row in rows.items():
        of_base = key._replace(provider=base)
        if key.provider != base and of_base in rows:
            compared.append(_compared(key, rows[of_base], row, limit, _of_rounds, within_run))
        elif key.provider != base:
            alone.append(key)
    if not compared:
        raise ValueError(f"--base: no other provider is timed on a case of {base!r}")
    untimed = {
        key: row.reason or ABSENT
        for row in results.rows
        if (key := _key(row)) not in rows and key._replace(provider=base) in rows
    }
    return Comparison(compared, {}, alone, [], untimed)


def timed_rows(results: Results) -> dict[Key, Row]:
    return {_key(row): row for row in results.rows if row.timing is not None}


def _key(row: Row) -> Key:
    return Key(row.provider, row.what, row.case)


def _of_floor(row: Row) -> list[float]:
    return row.timing.ratios(floor_flops(row.case.N, row.case.D, PRODUCTS[row.what]))


def _of_rounds(row: Row) -> list[float]:
    return list(row.timing.samples)


def _compared(
    key: Key,
    before: Row,
    after: Row,
    limit: float | None,
    samples_of: Callable[[Row], list[float]],
    interval_of: Callable[[list[float], list[float]], Interval],
) -> Compared:
    samples = samples_of(before), samples_of(after)
    if not all(samples):
        reason = "a file of an earlier version has no samples of rounds: measure again"
        return Compared(key, before, after, None, UNCLEAR, reason)
    if interval_of is within_run and len(samples[0]) != len(samples[1]):
        reason = (
            "they have no rounds in common: a call slower than --limit is measured once; use a "
            "larger --limit"
        )
        return Compared(key, before, after, None, UNCLEAR, reason)
    interval = interval_of(*samples)
    verdict = verdict_of(interval, limit)
    if not interval.is_known:
        least = LEAST_WITHIN if interval_of is within_run else LEAST_BETWEEN
        reason = _too_few(min(map(len, samples)), least)
        return Compared(key, before, after, interval, verdict, reason)
    wide = "the interval is too wide: use more rounds (--rounds), or a quieter machine"
    return Compared(key, before, after, interval, verdict, wide if verdict == UNCLEAR else None)


def _too_few(num_rounds: int, least: int) -> str:
    if num_rounds == 1:  # of a call beyond the limit, whatever --rounds says
        return (
            f"1 round is too few, at least {least} are needed: a call slower than --limit is "
            "measured once; use a larger --limit (or more --rounds, if 1 was asked for)"
        )
    return f"{num_rounds} rounds are too few, at least {least} are needed: use more --rounds"


def _of_other_machines(one: Compared) -> Compared:
    """Keep the verdict SLOWER; turn any other verdict into UNCLEAR."""
    if one.verdict in (SLOWER, UNCLEAR):
        return one
    return one._replace(verdict=UNCLEAR, reason="the machines differ: measure both on one machine")


def _differences(before: Results, after: Results) -> list[str]:
    return [
        f"{name}: {before.host.get(name, 'not set')} and {after.host.get(name, 'not set')}"
        for name in MACHINE
        if before.host.get(name) != after.host.get(name)
    ]
