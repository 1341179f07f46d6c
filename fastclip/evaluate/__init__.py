"""Evaluation: retrieval and zero-shot classification, streamed: no N x N here either.

    ties, items                            what counts as right, and what is one image or one text
    ranking, classification                ranks and places, of features alone
    metrics                                numbers under open_clip's names, of features alone
    evaluator                              all of it while training, on all processes of a job
    zero_shot_task, prompts, imagenet      what is classified, and as what
    class_prompts, json_prompts            what is said of each class, from wherever it comes
    classifier                             classes as columns, of the prompts of each
    zero_shot_classifier                   open_clip's interface

The modules `ranking` and `classification` were called `retrieval` and `zero_shot`, and can still be
imported under these names. They are entries of `sys.modules` and no files: importing a file sets
the attribute of its name in the package, and these names are free for functions.
"""

import sys
from types import ModuleType

from fastclip.evaluate import classification, ranking

_FORMER = {"retrieval": ranking, "zero_shot": classification}

sys.modules.update({f"{__name__}.{name}": module for name, module in _FORMER.items()})


def __getattr__(name: str) -> ModuleType:
    """For `import fastclip.evaluate.retrieval`, while the package has no such attribute itself."""
    if name not in _FORMER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _FORMER[name]
