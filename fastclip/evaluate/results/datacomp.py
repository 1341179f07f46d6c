"""Names and main metrics of the data sets that DataComp evaluates on.

Source: github.com/mlfoundations/datacomp, `tasklist.yml` and `eval_utils/main.py`: the main metric
of a data set is acc1, except for those below. Their folders are called `wds_{name}_test`, with "-"
for "/".
"""

import re
from collections.abc import Mapping

GROUPS = ("vtab", "retrieval", "misc", "wilds", "fairness")
FOLDER = re.compile(r"(?:wds_)?(.+?)(?:_test)?")
BY_CLASS = ("vtab/caltech101", "fgvc_aircraft", "vtab/flowers", "vtab/pets")
# Main metrics that fastclip does not compute.
OTHER = {
    "misc/winogavil": "jaccard_score_10-12",
    "wilds/iwildcam": "F1-macro_all",
    "wilds/fmow": "acc_worst_region",
    "fairness/dollar_street": "acc_top5_wg",
    "fairness/geode": "acc_wg",
}
RECALLS = ("image_retrieval_recall@1", "text_retrieval_recall@1")


def key_of(dataset: str) -> str:
    """Return DataComp's name of a data set from the name of its folder.

    Example:
        >>> key_of("wds_vtab-caltech101_test")
        'vtab/caltech101'
    """
    name = FOLDER.fullmatch(dataset)[1]
    group, dash, rest = name.partition("-")
    return f"{group}/{rest}" if dash and group in GROUPS else name


def main_metric(key: str, metrics: Mapping[str, float | None]) -> float | None:
    """Return the main metric of a data set, or None if fastclip does not compute it."""
    if key in OTHER:
        return None
    if all(name in metrics for name in RECALLS):
        return sum(metrics[name] for name in RECALLS) / 2
    return metrics.get("mean_per_class_recall" if key in BY_CLASS else "acc1")
