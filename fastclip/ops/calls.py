"""Calls of a backend by an operator, whoever calls the operator: checked, and outside autocast."""

import functools
from typing import Any

import torch
from torch import Tensor

from fastclip.ops import contracts
from fastclip.ops.dispatch import kept_layout, load_backend


def call_backend(name: str, function: str, row_features: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """Call `function(*args)` of a backend, for features like `row_features`.

    Autocast would round the products to 16 bits: at logit_scale 100, logits off by up to 0.15.

    Raises:
        ValueError: no backend has this name, or an argument is not what the function needs.
        RuntimeError: the backend cannot take such features; the message is its objection.
    """
    backend = load_backend(name)
    if not hasattr(backend, "CHECKS_ARGUMENTS"):
        check_arguments(name, function, row_features, *args)
    device_type = row_features.device.type
    _check_that_it_runs(name, function, device_type, row_features.dtype)
    implementation = getattr(backend, function)
    if not torch.is_autocast_enabled(device_type):
        return implementation(*args)
    with torch.autocast(device_type, enabled=False):
        return implementation(*args)


def check_arguments(name: str, function: str, row_features: Tensor, *args: Any) -> None:
    """What a call with fake tensors has in the place of `call_backend`.

    Raises:
        ValueError: as `call_backend`.
    """
    primitive = "siglip_sum" if function.startswith("siglip") else "contrastive_lse"
    layout = kept_layout(name, primitive, row_features.dtype)
    getattr(contracts, function)(layout, *args)


# An objection is no result, and raised every time; without one, a second look costs nothing.
@functools.cache
def _check_that_it_runs(name: str, function: str, device_type: str, dtype: torch.dtype) -> None:
    backend = load_backend(name)
    objection = backend.unsupported(device_type, dtype)
    if objection is None and not hasattr(backend, function):
        objection = f"it has no {function}"
    if objection is not None:
        raise RuntimeError(f"backend '{name}' cannot run: {objection}")
