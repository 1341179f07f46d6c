"""What a transform or a tokenizer must return."""

from typing import Any

import torch
from torch import Tensor


def require_tensor(value: Any, name: str, dtype: torch.dtype, ndim: int) -> None:
    """Check what a function of the caller has returned.

    Args:
        name: the function, in the message.

    Raises:
        TypeError: `value` is not a tensor of this dtype with so many dimensions.
    """
    if not (isinstance(value, Tensor) and value.dtype == dtype and value.ndim == ndim):
        got = (
            f"{tuple(value.shape)} {value.dtype}"
            if isinstance(value, Tensor)
            else type(value).__name__
        )
        raise TypeError(f"{name} must return {ndim} dimensions of {dtype}, got {got}")
