"""Evaluation: retrieval, classification and probes, streamed: no N x N here either.

Of features alone, whatever model gave them, these functions say how good they are:

    zero_shot, retrieval                   scores of the two tasks, with their intervals
    linear_probe, few_shot                 what a linear classifier reads off them
    compare, wilson                        whether two models differ; how certain a rate is

They are imported when they are first named. The modules:

    ties, items                            what counts as right, and what is one image or one text
    ranking, classification                ranks and places, of features alone
    metrics                                numbers under the names of peers, of features alone
    scores, probe, figures                 the functions above, and a figure of what they say
    evaluator                              retrieval and zero-shot while training, on all ranks
    zero_shot_task, prompts, imagenet      what is classified, and as what
    zero_shot_classifier                   open_clip's interface

The modules `ranking` and `classification` were called `retrieval` and `zero_shot`, and can still be
imported under these names. They are entries of `sys.modules` and no files: importing a file would
set the attribute of its name in the package, which is the function. What the modules had are
attributes of the function too, for who imports one as `fastclip.evaluate.retrieval`.
"""

import importlib
import sys
from typing import TYPE_CHECKING

from fastclip.evaluate import classification, ranking

if TYPE_CHECKING:
    from fastclip.evaluate.probe.few_shot import few_shot as few_shot
    from fastclip.evaluate.probe.linear_probe import linear_probe as linear_probe
    from fastclip.evaluate.scores.comparison import compare as compare
    from fastclip.evaluate.scores.rate import wilson as wilson
    from fastclip.evaluate.scores.retrieval import retrieval as retrieval
    from fastclip.evaluate.scores.zero_shot import zero_shot as zero_shot

_MODULES = {
    "compare": "fastclip.evaluate.scores.comparison",
    "few_shot": "fastclip.evaluate.probe.few_shot",
    "linear_probe": "fastclip.evaluate.probe.linear_probe",
    "retrieval": "fastclip.evaluate.scores.retrieval",
    "wilson": "fastclip.evaluate.scores.rate",
    "zero_shot": "fastclip.evaluate.scores.zero_shot",
}
_FORMER = {"retrieval": ranking, "zero_shot": classification}

sys.modules.update({f"{__name__}.{name}": module for name, module in _FORMER.items()})


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function = getattr(importlib.import_module(_MODULES[name]), name)
    if name in _FORMER:
        former = vars(_FORMER[name]).items()
        vars(function).update({key: value for key, value in former if not key.startswith("_")})
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
