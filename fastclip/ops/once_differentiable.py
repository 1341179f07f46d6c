"""A clear error where a gradient of a gradient is asked for."""

import torch


def forbid_double_backward(op: str) -> None:
    """Make differentiating through the backward operator `op` raise, rather than be zero."""

    def refuse(ctx, *grad_outputs):
        raise RuntimeError(
            f"{op} is not differentiable: fastclip implements first derivatives only. "
            "For second derivatives, write the loss in plain PyTorch."
        )

    torch.library.register_autograd(op, refuse)
