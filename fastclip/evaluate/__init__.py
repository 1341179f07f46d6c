"""Evaluation: retrieval, classification and probes, streamed: no N x N here either.

Of features alone, whatever model gave them, these functions say how good they are:

    zero_shot, retrieval                   scores of the two tasks, with their intervals
    linear_probe, few_shot                 what a linear classifier reads off them
    compare, wilson                        whether two models differ; how certain a rate is

With a model, `evaluate_data` does all of it on the data that `open_set` opens, as `fastclip eval`
does, and `classify_images` says what images show.

All are imported when they are first named. The modules:

    ties, items                            what counts as right, and what is one image or one text
    ranking, classification                ranks and places, of features alone
    metrics                                numbers under the names of peers, of features alone
    scores, probe, figures                 the functions above, and a figure of what they say
    sets                                   data with labels or captions, each encoded once
    evaluation, tasks, prompt_gain         a model on a set, in all tasks that it allows
    results                                files and tables of what was found
    evaluator                              retrieval and zero-shot while training, on all ranks
    zero_shot_task, prompts, imagenet      what is classified, and as what
    class_prompts, json_prompts            what is said of each class, from wherever it comes
    classifier                             classes as columns, of the prompts of each
    image_classifier, answers              what is said of an image
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
    from fastclip.evaluate.class_prompts import make_class_prompts as make_class_prompts
    from fastclip.evaluate.class_prompts import read_class_prompts as read_class_prompts
    from fastclip.evaluate.evaluation import evaluate_data as evaluate_data
    from fastclip.evaluate.image_classifier import classify_images as classify_images
    from fastclip.evaluate.probe.few_shot import few_shot as few_shot
    from fastclip.evaluate.probe.linear_probe import linear_probe as linear_probe
    from fastclip.evaluate.scores.comparison import compare as compare
    from fastclip.evaluate.scores.rate import wilson as wilson
    from fastclip.evaluate.scores.retrieval import retrieval as retrieval
    from fastclip.evaluate.scores.zero_shot import zero_shot as zero_shot
    from fastclip.evaluate.sets.opening import open_set as open_set

_MODULES = {
    "classify_images": "fastclip.evaluate.image_classifier",
    "compare": "fastclip.evaluate.scores.comparison",
    "evaluate_data": "fastclip.evaluate.evaluation",
    "few_shot": "fastclip.evaluate.probe.few_shot",
    "linear_probe": "fastclip.evaluate.probe.linear_probe",
    "make_class_prompts": "fastclip.evaluate.class_prompts",
    "open_set": "fastclip.evaluate.sets.opening",
    "read_class_prompts": "fastclip.evaluate.class_prompts",
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
