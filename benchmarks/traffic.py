"""Bytes that a call moves, counted operator by operator: the denominator of an intensity.

Every operator counts each tensor that it reads and writes once, whatever its kernel does twice or
finds in a cache; of cross_entropy's gather only what is gathered. A fused operator is one: what
passes within it is not seen, nor is a kernel that is launched past torch's dispatcher (Triton's, a
compiled function's). No call moves less than its inputs and their gradients.
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
    """Bytes of one forward and backward, at least those of its inputs and gradients."""
    compulsory = sum(x.nbytes for x in step.inputs) + sum(x.nbytes for x in step.leaves)
    return max(compulsory, moved_bytes(step))


def moved_bytes(call: Callable[[], Any]) -> int:
    """Bytes that the operators of `call` read and write; it is called once."""
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
    """Bytes that an operator reads and writes, its name being `func`'s and its arguments these."""
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
    """Bytes of a tensor's distinct elements."""
    if not isinstance(x, Tensor):
        return 0
    return x.itemsize * prod(n for n, stride in zip(x.shape, x.stride(), strict=True) if stride)
