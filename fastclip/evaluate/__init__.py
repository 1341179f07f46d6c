"""Evaluation: retrieval, classification and probes, without the N x N matrix of similarities.

These functions need nothing but features, which may come from any model:

    zero_shot, retrieval                   scores of the two tasks, with confidence intervals
    linear_probe, few_shot                 accuracies of a linear classifier on the features
    compare, wilson                        whether two models differ; how certain a rate is

These functions take a model. `evaluate_data` runs all tasks on the data that `open_set` opens, as
`fastclip eval` does, and `classify_images` says what images show.

All of them are imported when they are first used. The modules of the package:

    ties, items                            what counts as right, and what is one image or one text
    ranking, classification                ranks of matches and of right classes, from features
    metrics                                metrics under the names that other projects give them
    scores, probe, figures                 the functions above, and a figure of their results
    sets                                   data with labels or captions, encoded once per set
    evaluation, tasks, prompt_gain         a model on a set, in every task that the set allows
    results                                files and tables of results
    evaluator                              retrieval and zero-shot while training, on all ranks
    zero_shot_task, prompts, imagenet      images to classify, their classes and templates
    class_prompts, json_prompts            the prompts of each class, from files or built in
    classifier                             the matrix of classes, from the prompts of each class
    image_classifier, answers              the nearest classes of single images
    zero_shot_classifier                   open_clip's interface

The modules `ranking` and `classification` were called `retrieval` and `zero_shot` before, and can
still be imported under these names. The old names are entries of `sys.modules` without files:
importing a file would replace the function of the same name in this package. The functions also
have the public names of the old modules as attributes, for callers who import a module as
`fastclip.evaluate.retrieval`.
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
