"""Results for people to read: tables with confidence intervals, and sentences."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastclip.counted import counted
from fastclip.evaluate.results.compared import Compared
from fastclip.evaluate.results.result import (
    CLASSIFICATION,
    FEW_SHOT,
    PROBE,
    RETRIEVAL,
    Result,
)
from fastclip.printable import printable

TITLES = {
    CLASSIFICATION: "zero-shot classification",
    RETRIEVAL: "retrieval",
    PROBE: "linear probe",
    FEW_SHOT: "few-shot probes",
}
ROWS = {
    "acc1": "top-1 accuracy", "acc5": "top-5 accuracy",
    "mean_per_class_recall": "mean per-class recall",
    "image": "text-to-image recall@{}", "text": "image-to-text recall@{}",
}  # fmt: skip
WIDTH = 34
LONGEST_TEMPLATE = 60
SHOWN = 5  # classes in a line
P_VALUE = 0.05


def report(result: Result) -> str:
    """Return the table of a result, with sentences about it below."""
    found, about = result.found, result.about
    lines = [f"{printable(result.dataset)}: {TITLES[result.task]}, {_size(result)}"]
    rows = list(_of_shots(found) if result.task == FEW_SHOT else _of_metrics(result))
    lines += rows
    if templates := about.get("templates"):
        subset = f" in a subset of {about['subset']}" if about.get("subset") else ""
        lines.append(f"  {found['num_classes']:,} classes{subset}, {printable(templates)}.")
    if gain := about.get("prompt_gain"):
        lines += _of_gain(gain)
    lines += [f"  {sentence}" for sentence in _sentences(result)]
    return "\n".join(lines)


def comparison(compared: Compared) -> str:
    """Return a comparison in four lines."""
    found = compared.found
    a, b = map(printable, compared.models)
    difference = (found.only_b - found.only_a) / found.n
    of_images = "" if found.images is None else f" over {found.images:,} images"
    test = "McNemar's exact test" if found.images is None else "The exact sign-flip test"
    told = (
        f"  {test}{of_images}: p = {found.p_value:.3g}; equal models would differ this much in "
        + ("at most 1 case of 20." if found.p_value <= P_VALUE
           else "more than 1 case of 20.")
    )  # fmt: skip
    return "\n".join([
        f"{printable(compared.dataset)}: {TITLES.get(compared.task, compared.task)}, "
        f"{compared.metric}, {found.n:,} answers",
        f"  {a} {found.rate_a.value:.2%}, {b} {found.rate_b.value:.2%}: {difference:+.2%}",
        f"  both right {found.both:,}, only the first {found.only_a:,}, only the second "
        f"{found.only_b:,}, neither {found.neither:,}.",
        told,
    ])  # fmt: skip


def _size(result: Result) -> str:
    num, skipped = result.about["samples"], result.about["skipped"]
    if result.task == RETRIEVAL:
        size = f"{result.found['num_images']:,} images and {result.found['num_texts']:,} texts"
    else:
        size = f"{num:,} images"
    if result.task in (PROBE, FEW_SHOT):
        size += f", trained on {printable(result.about['train']['dataset'])}"
    if skipped["samples"]:
        size += f"; {skipped['samples']:,} of {skipped['of']:,} samples are bad and left out"
    return size


def _of_metrics(result: Result) -> Iterator[str]:
    for name, interval in result.found["intervals"].items():
        if (title := _title(name)) is None:
            continue
        value = result.metrics[name]
        if value is None:
            yield f"  {title:<{WIDTH}}{'-':>9}   fewer than 5 classes"
        else:
            yield f"  {title:<{WIDTH}}{value:>9.2%}   {_between(interval)}"


def _of_shots(found: Mapping[str, Any]) -> Iterator[str]:
    for row in found["summary"]:
        values = row["lp_acc1"]
        several = row["seeds"] > 1
        title = f"{row['fewshot_k']} of each class, {row['seeds']} {'draws' if several else 'draw'}"
        between = f"{values['min']:.2%} to {values['max']:.2%} over the draws" if several else ""
        yield f"  {title:<{WIDTH}}{values['mean']:>9.2%}   {between}".rstrip()


def _of_gain(gain: Mapping[str, Any]) -> list[str]:
    def line(title: str, value: float, template: str = "") -> str:
        return f"  {title:<{WIDTH}}{value:>9.2%}   {printable(template, LONGEST_TEMPLATE)}".rstrip()

    return [
        line(f"all {gain['templates']} templates together", gain["all"]),
        line("the first template alone", gain["first"], gain["first_template"]),
        line("the best, chosen on this test", gain["best"], gain["best_template"]),
        line("one template alone, on average", gain["mean"]),
    ]


def _sentences(result: Result) -> Iterator[str]:
    found = result.found
    ties = found.get("ties", 0)
    for what, num in ties.items() if isinstance(ties, dict) else [("", ties)]:
        if num:
            where = f" ({what.replace('_', ' ')})" if what else ""
            yield f"{counted(num, 'tie')} counted against the model{where}."
    if shared := result.about.get("captions_of_several_images"):
        yield (
            f"{shared:,} captions are shared by several images. Each counts for its own image, and "
            "the other images tie with it, as in CLIP_benchmark; evaluation while training instead "
            "treats equal captions as one text, and any of its images as a hit."
        )
    lost = sum(found.get(f"non_finite{of}", 0) for of in ("", "_images", "_texts"))
    if lost:
        yield f"The features of {lost:,} items are not finite; these are always wrong."
    if empty := found.get("classes_without_images"):
        yield f"These classes have no image: {_some(empty)}."
    if untrained := found.get("untrained_classes"):
        yield f"These classes have no training images and are always wrong: {_some(untrained)}."
    if result.task == PROBE:
        chosen = f"was chosen on {found['num_validation']:,} images ({found['validation']})"
        how = chosen if found["num_validation"] else "is the only value"
        yield (
            f"Protocol {found['protocol']} on the feature {found['feature']!r}: C = "
            f"{found['c']:.3g} {how}; the probe was trained on {found['num_train']:,} images."
        )
    if result.task == FEW_SHOT:
        yield f"Protocol {found['protocol']} on the feature {found['feature']!r}."


def _title(metric: str) -> str | None:
    """Return the title of a metric, or None for open_clip's second name of a recall."""
    name = metric.removeprefix("lp_")
    if name in ROWS:
        return ROWS[name]
    kind, found, k = name.partition("_retrieval_recall@")
    return ROWS[kind].format(k) if found else None


def _between(interval: Mapping[str, float] | None) -> str:
    return "" if interval is None else f"95 %: {interval['low']:.2%} to {interval['high']:.2%}"


def _some(names: list[Any]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(printable(str(name), 80) for name in names[:SHOWN]) + more
