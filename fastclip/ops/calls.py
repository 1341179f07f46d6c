"""Call a backend from an operator: arguments are checked, and autocast is off."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from fastclip.ops import contracts
from fastclip.ops.dispatch import kept_layout, load_backend, objection
from fastclip.rectangle import Rectangle, Sides


def implement(
    op: OpOverload,
    call_of: Callable[[tuple[Any, ...]], tuple[Any, ...]],
    results_like: Callable[..., tuple[Tensor, ...]],
) -> None:
    """Make a backend's function the implementation of an operator.

    Args:
        op: an operator with flat arguments, one of which names a backend.
        call_of: turns the operator's arguments into the arguments of `call_backend`.
        results_like: turns the arguments of `call_backend` into empty tensors like the results, for
            fake tensors.
    """

    def implementation(*arguments: Any) -> tuple[Tensor, ...]:
        return call_backend(*call_of(arguments))

    def fake(*arguments: Any) -> tuple[Tensor, ...]:
        call = call_of(arguments)
        check_arguments(*call)
        return results_like(*call)

    torch.library.impl(op.name(), "CompositeExplicitAutograd")(implementation)
    torch.library.register_fake(op.name())(fake)


def gradients_like(
    rectangle: Rectangle, wants: Sides, dtype: torch.dtype | None = None
) -> tuple[Tensor, ...]:
    """Return empty tensors like the gradients of rows and columns, (0,) for an unwanted one."""
    sides = zip(rectangle[:2], wants, strict=True)
    return tuple(x.new_empty(x.shape if wanted else (0,), dtype=dtype) for x, wanted in sides)


def call_backend(name: str, function: str, rectangle: Rectangle, *args: Any) -> tuple[Tensor, ...]:
    """Call `function(rectangle, *args)` of a backend.

    Autocast is switched off. It would round the products to 16 bits: at logit_scale 100, logits
    would be wrong by up to 0.15.

    Raises:
        ValueError: no backend has this name, or an argument does not fit the function.
        RuntimeError: the backend cannot take such a rectangle; the message says why.
    """
    backend = load_backend(name)
    if not hasattr(backend, "CHECKS_ARGUMENTS"):
        check_arguments(name, function, rectangle, *args)
    device_type = rectangle.rows.device.type
    leaves_out = rectangle.excluded is not None
    _check_that_it_runs(name, function, device_type, rectangle.rows.dtype, leaves_out)
    implementation = getattr(backend, function)
    if not torch.is_autocast_enabled(device_type):
        return implementation(rectangle, *args)
    with torch.autocast(device_type, enabled=False):
        return implementation(rectangle, *args)


def check_arguments(name: str, function: str, rectangle: Rectangle, *args: Any) -> None:
    """Check the arguments of `call_backend`; with fake tensors, this replaces the call.

    Raises:
        ValueError: as in `call_backend`.
    """
    primitive = "siglip_sum" if function.startswith("siglip") else "contrastive_lse"
    layout = kept_layout(name, primitive, rectangle.rows.dtype)
    getattr(contracts, function)(layout, rectangle, *args)


# Only success is cached: an objection is raised, and found again at the next call.
@functools.cache
def _check_that_it_runs(
    name: str, function: str, device_type: str, dtype: torch.dtype, leaves_out: bool
) -> None:
    why_not = objection(name, device_type, dtype, leaves_out)
    if why_not is None and not hasattr(load_backend(name), function):
        why_not = f"it has no {function}"
    if why_not is not None:
        raise RuntimeError(f"backend '{name}' cannot run: {why_not}")
