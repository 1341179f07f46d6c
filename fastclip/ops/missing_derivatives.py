"""Raise clear errors for derivatives that fastclip does not have."""

from typing import NoReturn


def refuse_second_derivative(name: str) -> NoReturn:
    raise RuntimeError(
        f"{name} is not differentiable: fastclip implements first derivatives only. "
        "For second derivatives, write the loss in plain PyTorch."
    )


def refuse_forward_mode(name: str) -> NoReturn:
    raise RuntimeError(
        f"{name} has no forward-mode derivative (torch.func.jvp, linearize, jacfwd and hessian, "
        "torch.autograd.forward_ad): fastclip implements reverse mode. "
        "Use .backward(), torch.func.grad, vjp or jacrev, or write the loss in plain PyTorch."
    )
