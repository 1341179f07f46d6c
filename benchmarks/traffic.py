"""Count the bytes that a call moves, operator by operator, for the intensity in a roofline.

For every operator, each tensor that it reads or writes counts once, even if its kernel reads it
twice or finds it in a cache; for cross_entropy's gather, only the gathered elements count. Traffic
within a fused operator is not seen, nor are kernels that are launched without torch's dispatcher
(Triton's, and those of compiled functions). No call counts less than its inputs and gradients.
"""

from collections.abc import Callable
from math import prod
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastclip.benchmarks.step import Step

ONLY_WRITTEN = ("aten::fill_", "aten::zero_", "aten::copy_")
MAKES_NO_PASS = ("aten::empty", "aten::new_empty", "aten::empty_like", "aten::empty_strided")


def step_bytes(step: Step) -> int:
    """Return the bytes of one forward and backward, at least the bytes of inputs and gradients."""
    compulsory = sum(x.nbytes for x in step.inputs) + sum(x.nbytes for x in step.leaves)
    return max(compulsory, moved_bytes(step))


def moved_bytes(call: Callable[[], Any]) -> int:
    """Return the bytes that the operators of `call` read and write; `call` is called once."""
    counting = _Counting()
    with counting:
        call()
    return counting.num_bytes


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.num_bytes += operator_bytes(func, args, kwargs or {}, result)
        return result


def operator_bytes(func: Any, args: tuple, kwargs: dict[str, Any], result: Any) -> int:
    """Return the bytes that the operator `func` reads and writes with these arguments."""
    schema = func._schema
    if schema.name in MAKES_NO_PASS or func.is_view:
        return 0
    given = {x.name: value for x, value in zip(schema.arguments, args, strict=False)} | kwargs
    if schema.name == "aten::nll_loss_forward":
        return 2 * tensor_bytes(given["target"])
    total = 0
    for argument in schema.arguments:
        size = sum(map(tensor_bytes, tree_leaves(given.get(argument.name))))
        written = argument.alias_info is not None and argument.alias_info.is_write
        only_written = argument.is_out or schema.name in ONLY_WRITTEN
        if written and only_written:
            total += size
        elif written:
            total += 2 * size
        elif not (schema.name == "aten::nll_loss_backward" and argument.name == "self"):
            total += size
    new = [x for x, of in zip(_listed(result), schema.returns, strict=False) if not of.alias_info]
    return total + sum(map(tensor_bytes, tree_leaves(new)))


def _listed(result: Any) -> tuple:
    return result if isinstance(result, tuple) else (result,)


def tensor_bytes(x: Any) -> int:
    """Return the bytes of a tensor's distinct elements."""
    if not isinstance(x, Tensor):
        return 0
    return x.itemsize * prod(n for n, stride in zip(x.shape, x.stride(), strict=True) if stride)
