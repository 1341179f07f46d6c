"""Evaluation: retrieval and zero-shot classification, streamed: no N x N here either.

    ties, items                            what counts as right, and what is one image or one text
    ranking, classification                ranks and places, of features alone
    metrics                                numbers under open_clip's names, of features alone
    evaluator                              all of it while training, on all processes of a job
    zero_shot_task, prompts, imagenet      what is classified, and as what
    class_prompts, json_prompts            what is said of each class, from wherever it comes
    classifier                             classes as columns, of the prompts of each
    image_classifier, answers              what is said of an image
    zero_shot_classifier                   open_clip's interface

The modules `ranking` and `classification` were called `retrieval` and `zero_shot`, and can still be
imported under these names. They are entries of `sys.modules` and no files: importing a file sets
the attribute of its name in the package, and these names are free for functions.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastclip.evaluate import classification, ranking

if TYPE_CHECKING:
    from fastclip.evaluate.class_prompts import make_class_prompts as make_class_prompts
    from fastclip.evaluate.class_prompts import read_class_prompts as read_class_prompts
    from fastclip.evaluate.image_classifier import classify_images as classify_images

# Functions, and the modules that are imported when they are first named.
_MODULES = {
    "classify_images": "fastclip.evaluate.image_classifier",
    "make_class_prompts": "fastclip.evaluate.class_prompts",
    "read_class_prompts": "fastclip.evaluate.class_prompts",
}
_FORMER = {"retrieval": ranking, "zero_shot": classification}

sys.modules.update({f"{__name__}.{name}": module for name, module in _FORMER.items()})


def __getattr__(name: str) -> Any:
    """Functions; and, for `import fastclip.evaluate.retrieval`, modules by their former names."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name not in _FORMER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _FORMER[name]
