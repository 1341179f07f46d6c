"""A clear error where a gradient of a gradient is asked for."""

from typing import NoReturn

import torch


def forbid_double_backward(op: str) -> None:
    """Make differentiating through the backward operator `op` raise, rather than be zero."""

    torch.library.register_autograd(op, lambda ctx, *grads: refuse_second_derivative(op))


def refuse_second_derivative(name: str) -> NoReturn:
    raise RuntimeError(
        f"{name} is not differentiable: fastclip implements first derivatives only. "
        "For second derivatives, write the loss in plain PyTorch."
    )
