"""Make operators differentiable by autograd and by the reverse-mode transforms of torch.func.

`torch.library.register_autograd` (torch 2.13) makes an old-style `Function`, which torch.func
refuses, and which ignores forward mode: tangents vanish silently. Therefore this module registers
its own kernel for the dispatcher's key Autograd. The dispatcher calls the kernel once per level of
transforms, with the tensors of that level. The kernel applies a function of that single level,
whose forward calls the operator at the levels below.

    level of grad, vjp    this kernel
    level of vmap         the operator, one sample after the other
    level of jvp          an error: there are no forward-mode derivatives
    no transform          this kernel
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch._ops import OpOverload
from torch.autograd.forward_ad import _set_fwd_grad_enabled
from torch.autograd.function import _SingleLevelFunction

from fastclip.ops.missing_derivatives import refuse_forward_mode, refuse_second_derivative


def needs_grad(*inputs: Tensor) -> bool:
    """Return whether a backward may follow the computation from `inputs`."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in inputs)


def register_gradient(
    op: OpOverload,
    setup_context: Callable[[Any, tuple, Any], None],
    backward: Callable[..., tuple[Tensor | None, ...]],
) -> None:
    """Make an operator work with autograd, torch.func.grad and torch.func.vmap.

    Args:
        op: an operator that returns a tuple of tensors.
        setup_context, backward: as in `torch.autograd.Function`.
    """

    def forward(*args: Any) -> tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            if not torch._C._are_functorch_transforms_active():
                return op(*args)
            # The forward of a Function runs without gradients; the levels below need theirs.
            with torch.enable_grad(), _set_fwd_grad_enabled(True):
                return op(*args)

    methods = {
        "forward": forward,
        "setup_context": setup_context,
        "backward": backward,
        "jvp": lambda ctx, *_: refuse_forward_mode(op.name()),
    }
    name = op.name().replace("::", "_")
    function = type(name, (_SingleLevelFunction,), {k: staticmethod(f) for k, f in methods.items()})

    def at_this_level(*args: Any) -> tuple[Tensor, ...]:
        if not torch._C._are_functorch_transforms_active():
            return function.apply(*args)
        with enable_single_level_autograd_function():
            return function.apply(*args)

    def one_sample_after_the_other(info: Any, in_dims: tuple, *args: Any) -> tuple[tuple, tuple]:
        results = [
            op(*(_sample(arg, dim, i) for arg, dim in zip(args, in_dims, strict=True)))
            for i in range(info.batch_size)
        ]
        outputs = tuple(torch.stack(x) for x in zip(*results, strict=True))
        return outputs, (0,) * len(outputs)

    torch.library.impl(op.name(), "Autograd")(at_this_level)
    torch.library.register_vmap(op.name(), one_sample_after_the_other)


def forbid_double_backward(op: OpOverload) -> None:
    """Make a derivative of the backward operator `op` raise an error instead of being zero."""
    register_gradient(op, _nothing_saved, lambda ctx, *_: refuse_second_derivative(op.name()))


def _sample(arg: Any, dim: Any, index: int) -> Any:
    if not isinstance(arg, Tensor) or dim is None:  # of a list of numbers, `dim` is a list of Nones
        return arg
    # Contiguous, because backends require it of all tensors but features.
    return arg.select(dim, index).contiguous()


def _nothing_saved(ctx: Any, inputs: tuple, output: Any) -> None:
    pass
