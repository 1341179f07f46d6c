"""Make torchvision importable with a torch that it was not built for.

The index has torchvision for CUDA only. With a CPU torch, its operators cannot be loaded, and its
import fails on the first one that it names. But open_clip and transformers import it only for its
transforms and call no operator, so it is enough to declare the operators without an implementation.
"""

import importlib.util
from functools import cache

import torch

OPERATORS = ("nms", "qnms")  # torchvision registers fake versions of these when it is imported
_declared: list[torch.library.Library] = []  # a declaration lives as long as its object


@cache
def make_importable() -> None:
    """Declare torchvision's operators if it is installed but cannot load them."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
