"""Time calls relative to what the machine does in the same minute.

Times on a shared machine drift by tens of percent within minutes. Everything that is to be compared
is therefore timed in turns (round-robin, with rotating order), a matmul is timed before every turn,
and the ratio to the floor is formed within each round before the median is taken:

    floor        = 8 N^2 D FLOPs / matmul rate of the round
    times_floor  = median over rounds of seconds / floor
    matmul rate  = 2 M^2 D FLOPs / seconds of an (M, D) x (D, M) product, M = N in [1024, 4096]

8 N^2 D FLOPs are the four products of a loss that keeps no logits: the logits in the forward, the
logits again in the backward, and two gradients. The floor of a forward alone has one of them, and
the floor of a backward alone has three. A turn repeats a short call for TURN_SECONDS and reports
the median.

If a call has a method `prepare`, it runs before each call and is not timed.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import torch

TURN_SECONDS = 0.02
MAX_CALLS = 50
MAX_ROUNDS = 200


PRODUCTS = 4  # N x N x D products in the floor of a forward and backward

Stopwatch = Callable[[Callable[[], Any]], float]  # takes a call, returns its seconds


@dataclass(frozen=True)
class Timing:
    seconds: float  # median over rounds
    seconds_low: float  # lower quartile
    seconds_high: float  # upper quartile
    rounds: int
    matmul_flops_per_second: float  # median over rounds
    times_floor: float  # median over rounds of the ratio within a round
    samples: tuple[float, ...] = ()  # seconds of each round
    matmul_samples: tuple[float, ...] = ()  # FLOP/s of the matmul in the same rounds

    def ratios(self, floor: int) -> list[float]:
        """Return, for each round, the time over the time of `floor` FLOPs at its matmul rate."""
        pairs = zip(self.samples, self.matmul_samples, strict=True)
        return [seconds * rate / floor for seconds, rate in pairs]


class Stopped(KeyboardInterrupt):
    """Raised after Ctrl-C; `outcomes` has what `time_together` would have returned by then."""

    def __init__(self, outcomes: dict[str, Timing | Exception]) -> None:
        super().__init__()
        self.outcomes = outcomes


class Matmul:
    """The matrix product that times are compared with, shaped like the logits of the case.

    It is float32 on a CPU and bfloat16 on a GPU, the fastest dtype of each that keeps gradients.
    """

    def __init__(self, N: int, D: int, device: str = "cpu") -> None:
        M = min(max(N, 1024), 4096 if device == "cpu" else 16384)
        kind = {"dtype": torch.float32 if device == "cpu" else torch.bfloat16, "device": device}
        self.rows, self.cols = torch.randn(M, D, **kind), torch.randn(D, M, **kind)
        self.out = torch.empty(M, M, **kind)
        self.flops = 2 * M * M * D

    def __call__(self) -> None:
        torch.mm(self.rows, self.cols, out=self.out)


def floor_flops(N: int, D: int, products: int = PRODUCTS) -> int:
    return 2 * products * N * N * D


def summarize(seconds: list[float], flops_per_second: list[float], floor: int) -> Timing:
    """Summarise one call's seconds and the matmul's rate in each round; `floor` is in FLOPs."""
    spread = quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    ratios = [s * rate / floor for s, rate in zip(seconds, flops_per_second, strict=True)]
    return Timing(
        seconds=median(seconds),
        seconds_low=spread[0],
        seconds_high=spread[2],
        rounds=len(seconds),
        matmul_flops_per_second=median(flops_per_second),
        times_floor=median(ratios),
        samples=tuple(seconds),
        matmul_samples=tuple(flops_per_second),
    )


def time_together(
    calls: Mapping[str, Callable[[], Any]],
    N: int,
    D: int,
    *,
    rounds: int = 5,
    budget_seconds: float = 10.0,
    limit_seconds: float = 30.0,
    slow_first_call: Callable[[str], bool] = lambda name: False,
    products: Callable[[str], int] = lambda name: PRODUCTS,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Timing | Exception]:
    """Time the calls in turns with each other and with the matmul.

    Args:
        calls: what to time, by name; all of it work on N pairs of dimension D.
        rounds: the least number of rounds; more follow until `budget_seconds` are spent.
        limit_seconds: a call slower than this is measured once, by its warm-up.
        slow_first_call: whether the first call of this name compiles, so that its time does not
            count against the limit.
        products: how many N x N x D products the floor of the call of this name has.
        device: "cpu", or "cuda", for which a time ends when the device has finished.
        progress: called with a text that says what runs next.

    Returns:
        The timing of each call by its name, or the exception that the call raised.

    Raises:
        Stopped: the user pressed Ctrl-C; the exception has the results of finished rounds.
    """
    product = Matmul(N, D, device)
    stopwatch = {"cpu": wall_seconds, "cuda": _cuda_stopwatch}[device]
    product()
    matmul = _Turn(product, stopwatch(product), stopwatch)
    outcomes, turns, rates = {}, {}, []

    def floor_of(name: str) -> int:
        return floor_flops(N, D, products(name))

    def found() -> dict[str, Timing | Exception]:
        for name, turn in turns.items() if rates else ():
            # A round that was stopped has some turns but no rate.
            outcomes[name] = summarize(turn.seconds[: len(rates)], rates, floor_of(name))
        return {name: outcomes[name] for name in calls if name in outcomes}

    try:
        for name, call in calls.items():
            progress(f"{name}: warm-up")
            try:
                limit = math.inf if slow_first_call(name) else limit_seconds
                seconds = _warm_up(call, limit, stopwatch)
            except Exception as error:
                outcomes[name] = error
                continue
            if seconds > limit_seconds:
                rate = product.flops / matmul.take()
                outcomes[name] = summarize([seconds], [rate], floor_of(name))
            else:
                turns[name] = _Turn(call, seconds, stopwatch)
        start = time.perf_counter()
        while turns and len(rates) < MAX_ROUNDS:
            if len(rates) >= rounds and time.perf_counter() - start > budget_seconds:
                break
            progress(f"N = {N}: round {len(rates) + 1}")
            rates.append(product.flops / _round(turns, outcomes, matmul, len(rates)))
    except KeyboardInterrupt:
        raise Stopped(found()) from None
    return found()


def _round(
    turns: dict[str, "_Turn"], outcomes: dict[str, Any], matmul: "_Turn", number: int
) -> float:
    """Let each call take its turn; move a failing one to `outcomes`. Return the matmul's median."""
    matmul_seconds = []
    for name in rotated(list(turns), number):
        matmul_seconds.append(matmul.take())
        try:
            turns[name].take()
        except Exception as error:
            outcomes[name] = error
            del turns[name]
    return median(matmul_seconds)


class _Turn:
    """One call's turns, each as long as TURN_SECONDS allows it to be repeated."""

    def __init__(self, call: Callable[[], Any], seconds: float, stopwatch: Stopwatch) -> None:
        self.call, self.stopwatch = call, stopwatch
        self.repeats = max(1, min(MAX_CALLS, round(TURN_SECONDS / seconds)))
        self.seconds = []  # one per turn

    def take(self) -> float:
        taken = [_prepared(self.call, self.stopwatch) for _ in range(self.repeats)]
        self.seconds.append(median(taken))
        return self.seconds[-1]


def _warm_up(call: Callable[[], Any], limit_seconds: float, stopwatch: Stopwatch) -> float:
    """Return the seconds of the second call, or of the first if it exceeds the limit."""
    seconds = _prepared(call, stopwatch)
    return _prepared(call, stopwatch) if seconds <= limit_seconds else seconds


def _prepared(call: Callable[[], Any], stopwatch: Stopwatch) -> float:
    prepare = getattr(call, "prepare", None)
    if prepare is not None:
        prepare()
    return stopwatch(call)


def rotated(names: list[str], round_number: int) -> list[str]:
    first = round_number % len(names)
    return names[first:] + names[:first]


def wall_seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _cuda_stopwatch(call: Callable[[], Any]) -> float:
    """Return the seconds from an idle device to an idle device, which include waiting launches."""
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return 1e-3 * begin.elapsed_time(end)


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over rounds of our time over their time in the same round."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))
