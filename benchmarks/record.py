"""A run that is printed and, if wanted, written: results, report, plots."""

import datetime
import importlib.util
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastclip.benchmarks import host
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.family.report import markdown as family_markdown
from fastclip.benchmarks.measure import Plan, measure
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.report import markdown
from fastclip.benchmarks.results import FAMILY, Results


def record(
    objective: str,
    action: str,
    groups: Sequence[Sequence[Provider]],
    cases: Sequence[Case],
    plan: Plan,
    output: Path | None,
    facts: dict[str, Any],
) -> None:
    """Measure, print the report, and write it under `output` if there is one.

    Args:
        objective: of the results.
        action: of the command, for the files' names.
        groups: the providers of each group are timed in turns.
        output: folder of all devices' results.
        facts: of the host.
    """
    now = datetime.datetime.now().astimezone()
    results = Results(
        objective=objective,
        date=now.isoformat(timespec="seconds"),
        command=shlex.join(["fastclip", *sys.argv[1:]]),
        host=facts,
    )
    stem = None
    if output is not None:
        stem = output / host.device_name() / f"{now:%Y-%m-%d-%H%M%S}-{action}"

    def save() -> None:
        if stem is not None:
            results.save(stem.with_suffix(".json"))

    with _progress() as progress:
        for providers in groups:
            measure(results, cases, providers, plan, save, progress)
    print(report_of(results), end="")
    if stem is not None:
        write_report(results, stem)


def report_of(results: Results) -> str:
    return family_markdown(results) if results.objective == FAMILY else markdown(results)


def write_report(results: Results, stem: Path) -> None:
    report = stem.with_suffix(".md")
    report.write_text(report_of(results))
    written = [report]
    if objection_to_plots(results.objective) is None:
        from fastclip.benchmarks.plots import save_plots

        written += save_plots(results, stem)
    for path in written:
        print(path, file=sys.stderr)


def objection_to_plots(objective: str) -> str | None:
    """Why there will be none of results of this objective."""
    if objective == FAMILY:
        return "there are none of many losses"
    if importlib.util.find_spec("matplotlib") is not None:
        return None
    return "they need matplotlib: pip install 'fastclip-kernels[bench]'"


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what runs, where somebody may be watching."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda text: print(text, file=sys.stderr)
        return
    with tqdm(bar_format="{desc} [{elapsed}]", leave=False) as bar:
        yield bar.set_description_str
