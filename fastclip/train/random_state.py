"""The random numbers of a forward: the generators that it may draw them from, and where they stand.

    global    torch's on the CPU and on the model's devices, numpy's, Python's
    its own   generators that modules hold: as an attribute, in a list, tuple, set or mapping, in an
              object of another kind, or by a bound method or `functools.partial` of one

A generator that nothing here leads to, such as a global variable of a script, is not found; a
cached step notices (`second_encoding.py`).
"""

import functools
import random
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

KINDS = (
    torch.Generator, np.random.Generator, np.random.BitGenerator, np.random.RandomState,
    random.Random,
)  # fmt: skip
# What leads to no generator, and most attributes are.
PLAIN = frozenset(
    (type(None), bool, int, float, complex, str, bytes, type, torch.dtype, torch.device)
) | {torch.Size, Tensor, nn.Parameter, ModuleType, FunctionType}
DICTIONARIES = frozenset((dict, OrderedDict))
# Longer ones are data, such as a vocabulary.
LONGEST_CONTAINER = 1000


class RandomState:
    """Where some generators stand.

    Attributes:
        generators: as `torch_generators` and `generators_of` give them.
        states: of each of them, by default where it stands now; of torch's a uint8 tensor. None is
            one that stays where it is.
    """

    def __init__(self, generators: Sequence[Any], states: Sequence[Any] | None = None) -> None:
        self.generators = generators
        self.states = [_state_of(g) for g in generators] if states is None else states

    def restore(self) -> None:
        for generator, state in zip(self.generators, self.states, strict=True):
            if state is not None:
                _set_state(generator, state)


def torch_generators(devices: Iterable[torch.device]) -> list[Any]:
    """The generators that torch draws from on the CPU, and on `devices` where they are others."""
    found = [torch.default_generator]
    for device in dict.fromkeys(devices):
        if device.type in ("cpu", "meta"):
            continue
        module = torch.get_device_module(device)
        generator = module  # mps: one generator, that of the module
        if hasattr(module, "default_generators"):
            module.init()
            index = module.current_device() if device.index is None else device.index
            generator = module.default_generators[index]
        if not any(generator is other for other in found):
            found.append(generator)
    return found


def generators_of(model: nn.Module, *others: object) -> list[Any]:
    """Every generator that calls of `model` and `others` may draw from, as far as it is found."""
    devices = [tensor.device for tensor in (*model.parameters(), *model.buffers())]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        # Weights may wait elsewhere for the forward that draws there.
        devices.append(torch.device("cuda", torch.cuda.current_device()))
    return [*torch_generators(devices), random, np.random, *_held_by(model, *others)]


def _held_by(*roots: object) -> list[Any]:
    found, seen, waiting = [], set(), list(roots)
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind in PLAIN or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            # Most attributes of a module are dictionaries without an entry.
            values = vars(value).values()
            waiting += [v for v in values if type(v) not in DICTIONARIES or v]
        elif isinstance(value, dict | list | tuple | set | frozenset):
            if len(value) <= LONGEST_CONTAINER:
                waiting += value.values() if isinstance(value, dict) else value
        elif isinstance(value, KINDS):
            # What the system draws has no state.
            if not isinstance(value, random.SystemRandom):
                found.append(value)
        elif isinstance(value, MethodType | BuiltinMethodType):
            waiting.append(value.__self__)
        elif isinstance(value, functools.partial):
            waiting += [value.func, value.args, value.keywords]
        elif kind.__module__.partition(".")[0] != "torch":
            waiting += getattr(value, "__dict__", {}).values()
    return found


def _state_of(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.BitGenerator):
        return generator.state
    if generator is np.random or isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    if generator is random or isinstance(generator, random.Random):
        return generator.getstate()
    return generator.get_rng_state() if isinstance(generator, ModuleType) else generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = state
    elif generator is np.random or isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    elif generator is random or isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, ModuleType):
        generator.set_rng_state(state)
    else:
        generator.set_state(state)
