"""Two files of results: which of two models is better, on the same images."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastclip.data.quoting import quoted
from fastclip.evaluate.results.file import read_results
from fastclip.evaluate.results.outcomes import VERSION, from_json, image_of
from fastclip.evaluate.scores.comparison import Comparison, compare

Line = Mapping[str, Any]


class Compared(NamedTuple):
    """Attributes:
    dataset, task, metric: which answers were compared.
    models: what the two files call the models.
    found: how often each was right, and the test.
    """

    dataset: str
    task: str
    metric: str
    models: tuple[str, str]
    found: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Return it as strict JSON."""
        head = {"dataset": self.dataset, "task": self.task, "metric": self.metric}
        return head | {"models": list(self.models)} | self.found.to_dict()


def compare_files(a: str | os.PathLike, b: str | os.PathLike) -> tuple[list[Compared], list[str]]:
    """Compare the models of two files, for every task that both did, with the test of `compare`.

    Args:
        a, b: files in fastclip's format, each with results of one model. Of several results of
            the same task and data the last one counts.

    Returns:
        The comparisons, and sentences about what could not be compared, or was done otherwise.

    Raises:
        OSError, ValueError: a file cannot be read, has results of several models, or has none whose
            single answers are known, or of an earlier version; the two have no task in common; or
            the questions differ, in what is named.
    """
    first, second = _answers(a), _answers(b)
    said = [
        f"{os.fspath(path)} has {_shown(key)}, and the other file has not"
        for path, own, other in ((a, first, second), (b, second, first))
        for key in own
        if key not in other
    ]
    both = [key for key in first if key in second]
    if not both:
        raise ValueError(
            f"{os.fspath(a)} and {os.fspath(b)} have no data and task in common: "
            f"{', '.join(map(_shown, first))} and {', '.join(map(_shown, second))}"
        )
    found = []
    for key in both:
        one, other = first[key], second[key]
        if differing := _differing(one["outcomes"]["questions"], other["outcomes"]["questions"]):
            raise ValueError(
                f"{_shown(key)} is not the same in both files, and cannot be compared: they have "
                f"other {' and other '.join(differing)}"
            )
        if one.get("templates") != other.get("templates"):
            said.append(
                f"{_shown(key)} was done with other prompts: {quoted(one.get('templates'))} and "
                f"{quoted(other.get('templates'))}"
            )
        models = _model(one), _model(other)
        for metric in one["outcomes"]["correct"]:
            answers = [line["outcomes"]["correct"].get(metric) for line in (one, other)]
            compared = compare(*map(from_json, answers), image_of(answers[0]))
            found.append(Compared(*key, metric, models, compared))
    return found, said


def _answers(path: str | os.PathLike) -> dict[tuple[str, str], Line]:
    """The last line of each data set and task whose single answers are known."""
    lines = read_results(path)
    found = {(line.get("dataset"), line.get("task")): line for line in lines if _has_outcomes(line)}
    if not found:
        raise ValueError(
            f"{os.fspath(path)} has no results that say which images were right: those of "
            "zero-shot, retrieval and probe in the format fastclip do"
        )
    for key, line in found.items():
        outcomes = line["outcomes"]
        if outcomes.get("version") != VERSION or not isinstance(outcomes["questions"], dict):
            raise ValueError(
                f"{os.fspath(path)} has {_shown(key)} of another version of fastclip, which does "
                "not say alike what was asked: evaluate it again"
            )
    models = {_model(line) for line in found.values()}
    models |= {_model(line) for line in lines if _has_outcomes(line)}
    if len(models) > 1:
        raise ValueError(
            f"{os.fspath(path)} has results of several models ({', '.join(sorted(models))}): a "
            "file for each is needed to compare them"
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
    """What decides the questions of two lines, and is not the same."""
    return [name for name in one | other if one.get(name) != other.get(name)]


def _model(line: Line) -> str:
    return " ".join(str(line[name]) for name in ("model", "pretrained") if line.get(name))


def _shown(key: tuple[str, str]) -> str:
    return f"{quoted(key[1])} of {quoted(key[0])}"
