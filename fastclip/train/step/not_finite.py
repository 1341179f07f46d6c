"""Finds tensors that are not finite, by name: after a bad step, and before anything is stored."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path

from fastclip.train.weights.sharding import whole

MAX_NAMED = 3  # parameters of a tower in a message
OF_LOSS = "loss."  # the prefix of the loss's parameters among the names of a step's parameters


def names_not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors with nan or inf; waits once for each dtype on each device."""
    kinds: dict[tuple, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            kinds.setdefault((tensor.device, tensor.dtype), []).append(name)
    found = set()
    for names in kinds.values():
        largest = torch._foreach_norm([tensors[name].detach() for name in names], math.inf)
        sizes = torch.stack(largest).tolist()
        found |= {name for name, size in zip(names, sizes, strict=True) if not math.isfinite(size)}
    return [name for name in tensors if name in found]


def require_finite(content: Any, what: str) -> None:
    """Require that all tensors that are about to be stored are finite.

    Args:
        content: nested values of a file, with tensors among them.
        what: the name of the file, for the message.

    Raises:
        FloatingPointError: a tensor is not finite.
    """
    if names := stored_not_finite(content):
        raise FloatingPointError(
            f"{what} is not written, because {listed(names)} in it is not finite"
        )


def stored_not_finite(content: Any) -> list[str]:
    """Return the places of tensors that are not finite, such as `['state_dict']['visual.proj']`."""
    leaves, _ = tree_flatten_with_path(content)
    return names_not_finite(
        {keystr(path): leaf for path, leaf in leaves if isinstance(leaf, Tensor)}
    )


def objection_to_step(
    number: int, loss: float, parameters: Iterable[tuple[str, nn.Parameter]]
) -> str:
    """Say what in a step is not finite; ranks with sharded parameters call this together.

    Args:
        number: of the step, from 1.
        loss: of the step.
        parameters: with their names and their gradients, as an optimiser would step them.
    """
    bad_gradients, bad_weights = [], []
    for name, parameter in parameters:
        for tensor, names in ((parameter.grad, bad_gradients), (parameter.detach(), bad_weights)):
            # One tensor at a time, because a sharded tensor is made whole for this.
            if tensor is not None and names_not_finite({name: whole(tensor)}):
                names.append(name)
    if math.isfinite(loss):
        text = f"the gradient of step {number} is not finite"
        text += _by_tower(bad_gradients) or ": its squares add up to more than float32 holds"
    else:
        text = f"the loss of step {number} is {loss}"
    if bad_weights:
        text += f", and the weights before it are not finite{_by_tower(bad_weights)}"
    return text


def _by_tower(names: list[str]) -> str:
    towers: dict[str, list[str]] = {}
    for name in names:
        towers.setdefault(_tower_of(name), []).append(name)
    return "".join(f", in {tower}: {listed(of)}" for tower, of in towers.items())


def _tower_of(name: str) -> str:
    if name.startswith("logit_"):
        return "the scale and bias"
    if name.startswith(OF_LOSS):
        return "the loss"
    return "the image tower" if name.startswith("visual.") else "the text tower"


def listed(names: list[str]) -> str:
    """Return the first few names, and how many more there are, as text."""
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")
