"""Run a benchmark, print its report and, if asked, write results, report, CSV and figures."""

import datetime
import gc
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fastclip.benchmarks import host
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.ceilings import is_out_of_memory, measured_ceilings
from fastclip.benchmarks.commit import own_commit
from fastclip.benchmarks.csv_file import csv_text
from fastclip.benchmarks.family.report import markdown as family_markdown
from fastclip.benchmarks.measure import Plan, describe, measure
from fastclip.benchmarks.own import is_own, source_of_own
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.report import markdown
from fastclip.benchmarks.results import FAMILY, Results
from fastclip.benchmarks.telling import telling
from fastclip.installation import install_command

SECONDS_OF_A_PROCESS = 5  # mostly imports


def record(
    objective: str,
    action: str,
    groups: Sequence[Sequence[Provider]],
    cases: Sequence[Case],
    plan: Plan,
    output: Path | None,
    facts: dict[str, Any],
    formats: Sequence[str] = ("png",),
) -> Results:
    """Measure, print the report, and write everything under `output` if it is given.

    Args:
        objective: "clip", "siglip" or `FAMILY`.
        action: the action of the command, which is part of the files' names.
        groups: the providers of each group are timed in turns.
        output: the folder of all devices' results.
        facts: the facts of the host.
        formats: the formats of figures.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C. The finished measurements are printed and
            written; the text says how many there are, and where.
    """
    now = datetime.datetime.now().astimezone()
    results = Results(
        objective=objective,
        date=now.isoformat(timespec="seconds"),
        command=shlex.join(["fastclip", *sys.argv[1:]]),
        host=facts,
        commit=own_commit(),
        sources=sources_of(groups),
    )
    stem = None
    if output is not None:
        device = cases[0].device if cases else "cpu"
        stem = output / host.device_name(device) / f"{now:%Y-%m-%d-%H%M%S}-{action}"
    if objection_to_plots(objective) is not None:
        formats = ()
    try:
        run(results, groups, cases, plan, stem)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_kept(results, stem, formats)) from None
    print(report_of(results), end="")
    if stem is not None:
        name_files([beside(stem, ".json"), *write_report(results, stem, formats)])
    return results


def run(
    results: Results,
    groups: Sequence[Sequence[Provider]],
    cases: Sequence[Case],
    plan: Plan,
    stem: Path | None = None,
) -> None:
    """Measure into `results`, and save them after every stage if a path is given."""

    def save() -> None:
        if stem is not None:
            results.save(beside(stem, ".json"))

    results.complete = False
    with telling() as tell:
        if plan.memory and (children := _num_processes(groups, cases, plan)):
            tell(
                f"memory: starting {children} fresh processes of about {SECONDS_OF_A_PROCESS} "
                "seconds each (--no-memory leaves them out)"
            )
        if plan.traffic:
            tell("ceilings: timing a matrix product and a copy")
            _measure_ceilings(results, cases[0].device)
        for providers in groups:
            measure(results, cases, providers, plan, save, tell)
    results.complete = True
    save()


def _measure_ceilings(results: Results, device: str) -> None:
    """Measure the ceilings; if memory is short, note the reason instead, and go on."""
    try:
        results.ceilings = measured_ceilings(device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        results.ceilings_reason = describe(error)
        gc.collect()  # an error and the frame that raised it may keep each other and tensors alive
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()  # so that the next measurement has this memory


def report_of(results: Results) -> str:
    return family_markdown(results) if results.objective == FAMILY else markdown(results)


def write_report(results: Results, stem: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write `<stem>.md`, `<stem>.csv` and figures in the formats; return the files."""
    report, table = beside(stem, ".md"), beside(stem, ".csv")
    report.write_text(report_of(results))
    table.write_text(csv_text(results))
    written = [report, table]
    if formats:
        from fastclip.benchmarks.figures.plots import save_plots

        written += save_plots(results, stem, formats)
    return written


def beside(stem: Path, suffix: str) -> Path:
    """Append a suffix to the stem, whose name may contain dots."""
    return stem.with_name(stem.name + suffix)


def name_files(paths: Sequence[Path]) -> None:
    """Print the names of the written files on standard error."""
    for path in paths:
        print(path, file=sys.stderr)


def objection_to_plots(objective: str) -> str | None:
    """Return why results of this objective cannot be plotted, or None if they can."""
    if objective == FAMILY:
        return "results of several losses have no plots"
    if importlib.util.find_spec("matplotlib") is not None:
        return None
    return f"they need matplotlib: {install_command('bench', 'matplotlib')}"


def _kept(results: Results, stem: Path | None, formats: Sequence[str]) -> str:
    """Print and write the results of a stopped run; return a text that says how many."""
    num_timed = sum(row.timing is not None for row in results.rows)
    told = f"{num_timed} of {len(results.rows)} rows that had begun were timed"
    if num_timed:
        print(report_of(results), end="")
    if stem is None:
        return f"{told}; they are not written, because --output was not given"
    results.save(beside(stem, ".json"))
    if num_timed:
        name_files(write_report(results, stem, formats))
    return f"{told}; they are in {beside(stem, '.json')}"


def sources_of(groups: Sequence[Sequence[Provider]]) -> dict[str, str]:
    """Return the state of the source file of each user's function, by the provider's name."""
    names = [p.name for providers in groups for p in providers if is_own(p.name)]
    return {name: source for name in names if (source := source_of_own(name)) is not None}


def _num_processes(groups: Sequence[Sequence[Provider]], cases: Sequence[Case], plan: Plan) -> int:
    return sum(
        case.device == "cpu"
        and "step" in plan.whats
        and not provider.only_here
        and provider.objection(case) is None
        for providers in groups
        for provider in providers
        for case in cases
    )
