"""`fastclip.benchmarks.bench`: time your own kernel next to others, in a notebook or a script."""

import csv
import datetime
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastclip.benchmarks import values
from fastclip.benchmarks.cases import DATA, Case
from fastclip.benchmarks.choice import facts_of, matched, objection_to_device
from fastclip.benchmarks.commit import own_commit
from fastclip.benchmarks.csv_file import csv_text
from fastclip.benchmarks.measure import Plan
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.providers import OBJECTIVES
from fastclip.benchmarks.record import beside, report_of, run, sources_of, write_report
from fastclip.benchmarks.results import Results
from fastclip.benchmarks.step import PRODUCTS, STEP

Loss = Callable[..., Tensor]
RIVALS = {
    "cpu": ("fastclip/cpu", "open_clip"),
    "cuda": ("fastclip/cuda", "fastclip/triton", "open_clip"),
}


class Session(Results):
    """Results that `print` and notebooks show as a table, and that can be written as files."""

    def __str__(self) -> str:
        return report_of(self)

    _repr_markdown_ = __str__

    def table(self) -> list[dict[str, str]]:
        """Return a dict per row with the columns of the CSV, as `pandas.DataFrame` takes them."""
        return list(csv.DictReader(io.StringIO(csv_text(self))))

    def write(self, stem: str | os.PathLike, formats: Sequence[str] = ("png",)) -> list[Path]:
        """Write `<stem>.json`, `.md`, `.csv` and figures.

        Args:
            stem: a path without a suffix.
            formats: the formats of the figures: "png", "pdf", "svg"; with (), there are none.

        Returns:
            The written files.

        Raises:
            ModuleNotFoundError: figures are wanted and matplotlib is not installed.
        """
        stem = Path(stem)
        path = beside(stem, ".json")
        self.save(path)
        return [path, *write_report(self, stem, formats)]


def bench(
    fn: Loss | Mapping[str, Loss],
    *,
    against: Sequence[str] | None = None,
    n: int | str | Sequence[int | str] = (1024, 4096),
    d: int | str = 512,
    dtype: str | torch.dtype = "float32",
    data: str = "random",
    logit_scale: float = 100.0,
    objective: str = "clip",
    device: str = "cpu",
    passes: Sequence[str] = (STEP,),
    rounds: int = 6,
    budget_seconds: float = 10.0,
    limit_seconds: float = 30.0,
    memory: bool = True,
    accuracy: bool = True,
) -> Session:
    """Time your own loss in turns with others, measure its memory, and compare it with float64.

    The protocol is the same as in `fastclip bench loss`: everything of one N is timed in turns, a
    matrix product is timed before each turn, and ratios are formed within rounds.

    Args:
        fn: a function, or a dict of functions by their names in the table. Each is called with
            image_features (N, D), text_features (N, D) and logit_scale (), and for "siglip" with
            logit_bias () too, and returns the loss () with a graph to all of them.
        against: names or patterns from `fastclip bench providers`, or module:function. The default
            is fastclip's backends for the device, and open_clip.
        n: the numbers of pairs, such as 4096 or "4k".
        d: the dimension of the features.
        dtype: the dtype of the features: a name such as "bfloat16" or "bf16", or a torch.dtype.
        data: "random", "trained", "cone" or "adversarial": see `cases.py`.
        objective: "clip" or "siglip".
        device: "cpu" or "cuda".
        passes: what is timed: "step", "forward", "backward", or several of them.
        rounds: the least number of rounds; more follow until `budget_seconds` are spent on an N.
        limit_seconds: a call slower than this is measured once.
        memory: measure peak memory. On a CPU, the memory of `fn` is measured in this process and is
            a lower bound; the others run in fresh processes.
        accuracy: compare the loss and all gradients with float64, up to N = 4,096.

    Returns:
        Results with rows of times in seconds, bytes and errors. `print(results)` prints the table,
        and a notebook shows it; `results.write("stem")` writes JSON, CSV and figures. After Ctrl-C,
        the results have the finished rounds, and `results.complete` is False.

    Raises:
        TypeError: `fn` cannot be called.
        ValueError: an argument is wrong. It is raised before anything runs.
        KeyboardInterrupt: the user pressed Ctrl-C before anything was timed.

    Example:
        >>> import fastclip
        >>> results = bench(fastclip.clip_loss, against=(), n=64, d=32, rounds=1, budget_seconds=0)
        >>> results.rows[0].provider, results.rows[0].timing.rounds
        ('clip_loss', 1)
    """
    own = fn if isinstance(fn, Mapping) else {getattr(fn, "__name__", type(fn).__name__): fn}
    for name, loss in own.items():
        if not callable(loss):
            raise TypeError(f"fn must be a function, or functions by name; {name!r} is {loss!r}")
    _check_choice("objective", objective, OBJECTIVES)
    _check_choice("data", data, DATA)
    _check_choice("device", device, RIVALS)
    passes = (passes,) if isinstance(passes, str) else tuple(passes)
    for what in passes or ("",):
        _check_choice("passes", what, PRODUCTS)
    if (objection := objection_to_device(device)) is not None:
        raise ValueError(f"device: {objection}")
    sizes = [values.size("n", x) for x in ([n] if isinstance(n, (Number, str)) else n)]
    if not sizes:
        raise ValueError(f"n must be a number of pairs, or several numbers, got {n!r}")
    D, name_of_dtype = values.size("d", d), values.dtype("dtype", dtype)
    scale = values.positive("logit_scale", logit_scale)
    plan = Plan(
        values.size("rounds", rounds), values.seconds("budget_seconds", budget_seconds),
        values.seconds("limit_seconds", limit_seconds), memory, accuracy, passes, traffic=True,
    )  # fmt: skip
    rivals = RIVALS[device] if against is None else against
    others = matched("against", [rivals] if isinstance(rivals, str) else rivals, objective)
    if both := [other.name for other in others if other.name in own]:
        raise ValueError(f"against and fn have a name in common: {', '.join(both)}")
    providers = [*map(_own(objective), own.items()), *others]
    kind = getattr(torch, name_of_dtype)
    cases = [Case(N, D, kind, scale, data, device=device) for N in sizes]
    results = Session(
        objective=objective,
        date=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        command=f"fastclip.benchmarks.bench({', '.join(own)}, ...)",
        host=facts_of(device),
        commit=own_commit(),
        sources=sources_of([others]) | dict.fromkeys(own, "a function of the session"),
    )
    try:
        run(results, [providers], cases, plan)
    except KeyboardInterrupt:
        if not any(row.timing for row in results.rows):
            raise
        print("fastclip bench: stopped; the finished rounds are returned", file=sys.stderr)
    return results


def _own(objective: str) -> Callable[[tuple[str, Loss]], Provider]:
    def provider(item: tuple[str, Loss]) -> Provider:
        name, loss = item
        return Provider(name, objective, lambda: loss, only_here=True)

    return provider


def _check_choice(name: str, value: Any, known: Mapping[str, Any] | Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
