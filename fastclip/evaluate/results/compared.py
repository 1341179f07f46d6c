"""Compare two files of results: which of two models is better on the same images."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastclip.data.quoting import quoted
from fastclip.evaluate.results.file import read_results
from fastclip.evaluate.results.outcomes import VERSION, from_json, image_of
from fastclip.evaluate.scores.comparison import Comparison, compare

Line = Mapping[str, Any]


class Compared(NamedTuple):
    """The comparison of two models in one metric of one task.

    Attributes:
        dataset, task, metric: the answers that were compared.
        models: the names of the models in the two files.
        found: how often each model was right, and the test.
    """

    dataset: str
    task: str
    metric: str
    models: tuple[str, str]
    found: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as strict JSON."""
        head = {"dataset": self.dataset, "task": self.task, "metric": self.metric}
        return head | {"models": list(self.models)} | self.found.to_dict()


def compare_files(a: str | os.PathLike, b: str | os.PathLike) -> tuple[list[Compared], list[str]]:
    """Compare the models of two files of results in every task that both files have.

    Args:
        a, b: files in fastclip's format, each with results of one model. If a file has several
            results of the same task and data, the last one counts.

    Returns:
        The comparisons (see `compare`), and sentences about tasks that only one file has or that
        were done with different prompts.

    Raises:
        OSError, ValueError: a file cannot be read, has results of several models, has no results
            with single answers, or comes from an earlier version; the two files have no task in
            common; or their questions differ, in a part that the message names.
    """
    first, second = _answers(a), _answers(b)
    said = [
        f"{os.fspath(path)} has {_shown(key)}, but the other file does not"
        for path, own, other in ((a, first, second), (b, second, first))
        for key in own
        if key not in other
    ]
    both = [key for key in first if key in second]
    if not both:
        raise ValueError(
            f"{os.fspath(a)} and {os.fspath(b)} have no data and task in common: the first has "
            f"{', '.join(map(_shown, first))}, and the second {', '.join(map(_shown, second))}"
        )
    found = []
    for key in both:
        one, other = first[key], second[key]
        if differing := _differing(one["outcomes"]["questions"], other["outcomes"]["questions"]):
            raise ValueError(
                f"{_shown(key)} cannot be compared, because the two files have different "
                f"{' and different '.join(differing)}"
            )
        if one.get("templates") != other.get("templates"):
            said.append(
                f"{_shown(key)} was done with different prompts: {quoted(one.get('templates'))} "
                f"and {quoted(other.get('templates'))}"
            )
        models = _model(one), _model(other)
        for metric in one["outcomes"]["correct"]:
            answers = [line["outcomes"]["correct"].get(metric) for line in (one, other)]
            compared = compare(*map(from_json, answers), image_of(answers[0]))
            found.append(Compared(*key, metric, models, compared))
    return found, said


def _answers(path: str | os.PathLike) -> dict[tuple[str, str], Line]:
    """Return the last line with single answers for each data set and task."""
    lines = read_results(path)
    found = {(line.get("dataset"), line.get("task")): line for line in lines if _has_outcomes(line)}
    if not found:
        raise ValueError(
            f"{os.fspath(path)} has no results that say which images were right; the tasks "
            "zero-shot, retrieval and probe write these, in the format fastclip"
        )
    for key, line in found.items():
        outcomes = line["outcomes"]
        if outcomes.get("version") != VERSION or not isinstance(outcomes["questions"], dict):
            raise ValueError(
                f"{os.fspath(path)} has {_shown(key)} of another version of fastclip, which "
                "describes its questions differently; evaluate the model again"
            )
    models = {_model(line) for line in found.values()}
    models |= {_model(line) for line in lines if _has_outcomes(line)}
    if len(models) > 1:
        raise ValueError(
            f"{os.fspath(path)} has results of several models ({', '.join(sorted(models))}); to "
            "compare models, write the results of each to a file of its own"
        )
    return found


def _has_outcomes(line: Line) -> bool:
    outcomes = line.get("outcomes")
    return (
        isinstance(outcomes, dict)
        and isinstance(outcomes.get("questions"), dict | str)
        and isinstance(outcomes.get("correct"), dict)
    )


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the names of the parts in which the questions of two lines differ."""
    return [name for name in one | other if one.get(name) != other.get(name)]


def _model(line: Line) -> str:
    return " ".join(str(line[name]) for name in ("model", "pretrained") if line.get(name))


def _shown(key: tuple[str, str]) -> str:
    return f"{quoted(key[1])} of {quoted(key[0])}"
