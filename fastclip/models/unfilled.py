"""Making modules whose parameters have shapes and no values yet, to be filled from a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

# How fastclip's and torch's modules draw initial values: in place, or as factor * torch.randn.
FILLS = {Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_}
FILLS |= {value for name, value in vars(init).items() if name.endswith("_") and callable(value)}
DRAWS = {torch.randn, torch.rand}


@contextmanager
def unfilled() -> Iterator[None]:
    """Make modules in this context on the device "meta", without drawing initial values.

    To draw numbers on that device, torch would import its compiler, which takes seconds.

    Example:
        >>> with unfilled():
        ...     layer = nn.Linear(512, 512)
        >>> layer.weight.device
        device(type='meta')
    """
    with torch.device("meta"), _WithoutFilling():
        yield


def fill_buffers(model: nn.Module) -> None:
    """Compute the tables that no state dict has, in a model that was made in `unfilled`.

    A module with such buffers has a method `fill_buffers`, which is called.
    """
    for module in model.modules():
        if hasattr(module, "fill_buffers"):
            module.fill_buffers()


def is_unfilled() -> bool:
    """Whether the calling code runs in the context of `unfilled`."""
    return any(isinstance(mode, _WithoutFilling) for mode in _get_current_function_mode_stack())


class _WithoutFilling(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if function in FILLS:
            return args[0] if args else kwargs["tensor"]
        if function is Tensor.mul and isinstance(args[1], float):
            return args[0]
        drawn = torch.empty if function in DRAWS else function
        return drawn(*args, **(kwargs or {}))
