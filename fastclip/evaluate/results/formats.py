"""Results as lines of JSON, in fastclip's, CLIP_benchmark's and DataComp's formats."""

from collections.abc import Callable, Mapping
from typing import Any

from fastclip.evaluate.results.datacomp import OTHER, key_of, main_metric
from fastclip.evaluate.results.result import FEW_SHOT, PROBE, RETRIEVAL, Result

Line = dict[str, Any]


def _own(result: Result) -> list[Line]:
    return [result.to_dict()]


def _clip_benchmark(result: Result) -> list[Line]:
    """Return a line per result; for few-shot results a line per probe, as a linear probe."""
    head = {"dataset": result.dataset, "model": result.model, "pretrained": result.pretrained}
    if result.task == FEW_SHOT:
        return [
            head | {"task": PROBE, "language": "en", "metrics": _of_probe(probe)}
            for probe in result.found["probes"]
        ]
    metrics = dict(result.metrics)
    if result.task == RETRIEVAL:
        metrics = {name: value for name, value in metrics.items() if "_retrieval_" in name}
    return [head | {"task": result.task, "language": "en", "metrics": metrics}]


def _of_probe(probe: Mapping[str, Any]) -> dict[str, Any]:
    return {**probe["metrics"], "fewshot_k": probe["fewshot_k"], "seed": probe["seed"]}


def _datacomp(result: Result) -> list[Line]:
    if result.task in (PROBE, FEW_SHOT):
        raise ValueError(
            f"the format datacomp has no task {result.task!r}; choose another format (--format)"
        )
    key = key_of(result.dataset)
    metrics = dict(result.metrics) | {"main_metric": main_metric(key, result.metrics)}
    return [{"key": key, "dataset": result.dataset, "metrics": metrics}]


FORMATS: dict[str, Callable[[Result], list[Line]]] = {
    "fastclip": _own,
    "clip-benchmark": _clip_benchmark,
    "datacomp": _datacomp,
}


def cautions(result: Result, form: str) -> list[str]:
    """Return sentences about metrics that the format wants and fastclip does not compute."""
    key = key_of(result.dataset)
    if form != "datacomp" or key not in OTHER:
        return []
    return [
        f"DataComp's main metric of {key} is {OTHER[key]}, which fastclip does not compute; "
        "main_metric is null"
    ]
