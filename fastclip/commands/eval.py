"""`fastclip eval`: evaluate a trained model on data sets (`evaluate/evaluation.py`)."""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

from fastclip.commands.eval_arguments import (
    add_eval_arguments,
    chosen,
    reading,
    require_flags_looked_at,
    require_use,
)
from fastclip.commands.model_arguments import if_stopped, model_of, refusing
from fastclip.evaluate.evaluation import (
    FEW_SHOT,
    PROBE,
    RETRIEVAL,
    TASKS,
    TRAINED,
    ZERO_SHOT,
    evaluate_data,
    tasks_of,
)
from fastclip.evaluate.results import result as of_result
from fastclip.evaluate.results import words
from fastclip.evaluate.results.compared import compare_files
from fastclip.evaluate.results.file import ResultsFile
from fastclip.evaluate.results.formats import FORMATS, cautions
from fastclip.evaluate.results.result import Result
from fastclip.evaluate.sets.labelled import LabelledSet
from fastclip.evaluate.sets.opening import LABELLED, PAIRS, PairSet, find_set
from fastclip.evaluate.sets.reading import LookedAt, Reading
from fastclip.printable import printable, printable_lines

FIGURED = (ZERO_SHOT, PROBE, FEW_SHOT)


class Step(NamedTuple):
    """One data set, the tasks to do on it, and the data set that trains its probes."""

    data: LabelledSet | PairSet
    tasks: tuple[str, ...]
    train: LabelledSet | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_eval_arguments(parser)


def run(args: argparse.Namespace) -> int:
    return refusing("eval", _evaluate if args.compare is None else _compare, args)


def _compare(args: argparse.Namespace) -> int:
    for name in ("model", "data", "output", "figure", "features", "task"):
        if getattr(args, name) is not None:
            flag = "MODEL" if name == "model" else f"--{name}"
            raise ValueError(f"--compare evaluates nothing, so {flag} has no effect")
    found, said = compare_files(*args.compare)
    print("\n\n".join(map(words.comparison, found)))
    for sentence in said:
        _say(sentence)
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    if args.model is None:
        raise ValueError("MODEL is missing: give the model to evaluate")
    if not args.data:
        raise ValueError("--data is missing: give the data to evaluate on")
    steps = _steps(args)
    require_use(args, [task for task in TASKS if any(task in step.tasks for step in steps)])
    _require_figure(args.figure, steps)
    # Opened before anything is computed, so that a wrong file is refused at once.
    output = None if args.output is None else ResultsFile(args.output, _say)
    ready = model_of(args).with_decoding(args.decode)
    print(f"{printable(ready.name)}, {ready.precision.name} on {ready.device}")
    num_done = 0
    with if_stopped(lambda: f"{num_done} of {len(steps)} data sets evaluated"):
        for step in steps:
            results = evaluate_data(
                ready, step.data, step.tasks, train=step.train, batch_size=args.batch_size,
                workers=args.workers, max_bad_rate=args.max_bad_rate, say=_say,
                pretrained=args.pretrained or "", features=args.features, **chosen(args),
            )  # fmt: skip
            for result in results:
                print(f"\n{words.report(result)}", flush=True)
                if output is not None:
                    _append(output, result, args.format or "fastclip")
            if args.figure is not None:
                _draw(args.figure, results, ready.name)
            num_done += 1
    return 0


def _steps(args: argparse.Namespace) -> list[Step]:
    """Open all data sets, and return what to do with each."""
    wanted = None
    if args.task is not None and "all" not in args.task:
        is_pairs = {task == RETRIEVAL for task in args.task}
        if len(is_pairs) == 1:
            wanted = PAIRS if True in is_pairs else LABELLED
    opened, looked_at = _found(args.data, reading(args), wanted)
    train_data = args.train_data or []
    trained, train_looked_at = _found(train_data, reading(args, is_to_train=True), LABELLED)
    require_flags_looked_at(args, looked_at, train_looked_at)
    found = [(data, tasks_of(data, args.task, bool(trained))) for data in opened]
    _require_tasks(args, found)
    to_train = [data for data, tasks in found if set(tasks) & set(TRAINED)]
    if trained and to_train and len(trained) != len(to_train):
        raise ValueError(
            f"--train-data must name one data set for each labelled set, got {len(trained)} for "
            f"{', '.join(data.name for data in to_train)}"
        )
    if not trained and to_train:
        raise ValueError(f"{to_train[0].name}: a probe needs --train-data to train it on")
    remaining = iter(trained)
    return [
        Step(data, tasks, next(remaining) if set(tasks) & set(TRAINED) else None)
        for data, tasks in found
    ]


def _found(
    specs: list[str], how: Reading, wanted: str | None
) -> tuple[list[LabelledSet | PairSet], list[LookedAt]]:
    """Open data sets, and return them with the flags that each of them uses."""
    found = [find_set(spec, how, wanted) for spec in specs]
    return [data for data, _ in found], [looked_at for _, looked_at in found]


def _require_tasks(
    args: argparse.Namespace, found: list[tuple[LabelledSet | PairSet, tuple[str, ...]]]
) -> None:
    """Require that every task has a data set, and every data set a task."""
    done = {task for _, tasks in found for task in tasks}
    for task in args.task or ():
        if task != "all" and "all" not in args.task and task not in done:
            names = ", ".join(data.name for data, _ in found)
            raise ValueError(f"--task {task} fits none of the data sets: {names}")
    for data, tasks in found:
        if not tasks:
            kind = "pairs" if isinstance(data, PairSet) else "labelled images"
            raise ValueError(f"{data.name} has {kind}, and no --task uses them")


def _require_figure(path: Path | None, steps: list[Step]) -> None:
    if path is None:
        return
    if len(steps) > 1 or set(steps[0].tasks) != set(FIGURED):
        raise ValueError(
            "--figure needs one labelled data set with --train-data and --task all, got "
            + "; ".join(f"{step.data.name}: {', '.join(step.tasks)}" for step in steps)
        )
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise ValueError(f"--figure: {os.fspath(path)} is not a file in a folder that exists")


def _append(output: ResultsFile, result: Result, form: str) -> None:
    lines = FORMATS[form](result)
    before = sum(output.lines_like(line) for line in lines[:1])
    output.append(lines)
    for caution in cautions(result, form):
        _say(caution)
    if before:
        _say(
            f"{output.path} already had results of this model, data and task ({before}); the new "
            "one follows them"
        )


def _draw(path: Path, results: list[Result], model: str) -> None:
    from fastclip.evaluate.figures import probe_figure

    answers = {found.task: found.answer for found in results}
    title = f"{printable(model, 40)} on {printable(results[0].dataset, 40)}"
    probe_figure(
        path, zero_shot=answers[of_result.CLASSIFICATION], few_shot=answers[of_result.FEW_SHOT],
        full_probe=answers[of_result.PROBE], title=title,
    )  # fmt: skip
    print(f"\nwrote {path}")


def _say(sentence: str) -> None:
    print(f"  {printable_lines(sentence)}")
