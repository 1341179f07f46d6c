"""Modules whose parameters have shapes and no values, for who fills them from a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

# How initial values are drawn, by our modules and torch's: in place, or as factor * torch.randn.
FILLS = {Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_}
FILLS |= {value for name, value in vars(init).items() if name.endswith("_") and callable(value)}
DRAWS = {torch.randn, torch.rand}


@contextmanager
def unfilled() -> Iterator[None]:
    """In this context modules are made on the device "meta", and nothing draws initial values.

    Torch would import its compiler, which takes seconds, to draw numbers that are on no device.

    Example:
        >>> with unfilled():
        ...     layer = nn.Linear(512, 512)
        >>> layer.weight.device
        device(type='meta')
    """
    with torch.device("meta"), _WithoutFilling():
        yield


def fill_buffers(model: nn.Module) -> None:
    """Let the modules of a model that was made so compute the tables that no state dict has.

    A module with such buffers has a method `fill_buffers`.
    """
    for module in model.modules():
        if hasattr(module, "fill_buffers"):
            module.fill_buffers()


def is_unfilled() -> bool:
    """Whether modules that are made now are made in the context of `unfilled`."""
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
