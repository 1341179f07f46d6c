"""Makes torchvision importable beside a torch that it was not built for.

The index has torchvision for CUDA only. Beside a CPU torch its operators cannot be loaded, and its
import fails on the first one it names, although open_clip and transformers call none of them: they
import it for its transforms. Declared without an implementation, the operators are as good.
"""

import importlib.util
from functools import cache

import torch

OPERATORS = ("nms", "qnms")  # those that torchvision registers fake versions of when imported
_declared: list[torch.library.Library] = []  # declarations end with the object that made them


@cache
def make_importable() -> None:
    """Declare torchvision's operators if it is installed and cannot load them; else do nothing."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
