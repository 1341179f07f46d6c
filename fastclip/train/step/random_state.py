"""Finds the random generators that a forward may draw from, and saves and restores their states.

    global    torch's on the CPU and on the model's devices, numpy's, Python's
    its own   generators that modules hold: in an attribute of the module or of its class, in a
              list, tuple, set, deque or mapping, in another object, in a bound method or
              `functools.partial` of one, or in a function, such as a hook, that closes over one

A generator that cannot be reached in these ways, such as a global variable of a script, is not
found; a cached step then notices the difference (`second_encoding.py`).
"""

import functools
import random
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from types import BuiltinMethodType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

KINDS = (
    torch.Generator, np.random.Generator, np.random.BitGenerator, np.random.RandomState,
    random.Random,
)  # fmt: skip
# Types that lead to no generator, which most attributes have; and weak proxies, for example of a
# trainer, which are not part of a model and may refer to objects that are gone.
PLAIN = frozenset(
    (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size,
     Tensor, nn.Parameter, ModuleType, *weakref.ProxyTypes)
)  # fmt: skip
DICTIONARIES = frozenset((dict, OrderedDict))
CONTAINERS = (dict, list, tuple, set, frozenset, deque)
# Checked first, because isinstance is slow for torch.Generator.
HOLDERS = (nn.Module, type, FunctionType, *CONTAINERS)
# Longer ones are data, such as a vocabulary.
LONGEST_CONTAINER = 1000


class RandomState:
    """The states of some generators.

    Attributes:
        generators: as `torch_generators` and `generators_of` return them.
        states: the state of each generator, by default its state now; a uint8 tensor for torch's.
            `restore` leaves a generator whose state is None as it is.
    """

    def __init__(self, generators: Sequence[Any], states: Sequence[Any] | None = None) -> None:
        self.generators = generators
        self.states = [_state_of(g) for g in generators] if states is None else states

    def restore(self) -> None:
        for generator, state in zip(self.generators, self.states, strict=True):
            if state is not None:
                _set_state(generator, state)


def torch_generators(devices: Iterable[torch.device]) -> list[Any]:
    """Return the generators that torch draws from on the CPU and on `devices`, each once."""
    found = [torch.default_generator]
    for device in dict.fromkeys(devices):
        if device.type in ("cpu", "meta"):
            continue
        module = torch.get_device_module(device)
        generator = module  # mps has a single generator, which the module stands for
        if hasattr(module, "default_generators"):
            module.init()
            index = module.current_device() if device.index is None else device.index
            generator = module.default_generators[index]
        if not any(generator is other for other in found):
            found.append(generator)
    return found


def generators_of(model: nn.Module, *others: object) -> list[Any]:
    """Return every generator found that calls of `model` and `others` may draw from."""
    # One walk instead of parameters() and buffers(), which take one each: this runs at every step.
    devices = [
        tensor.device
        for module in model.modules()
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        # Weights may be on another device until the forward moves them to the GPU and draws there.
        devices.append(torch.device("cuda", torch.cuda.current_device()))
    return [*torch_generators(devices), random, np.random, *_held_by(model, *others)]


def _held_by(*roots: object) -> list[Any]:
    found, seen, waiting = [], set(), list(roots)
    while waiting:
        value = waiting.pop()
        if type(value) in PLAIN or id(value) in seen:
            continue
        seen.add(id(value))
        if not isinstance(value, HOLDERS) and isinstance(value, KINDS):
            # The system's generator has no state.
            if not isinstance(value, random.SystemRandom):
                found.append(value)
        else:
            waiting += _led_to_by(value)
    return found


def _led_to_by(value: Any) -> Iterable[Any]:
    """Return the objects that a value refers to, which may be generators or lead to some."""
    kind = type(value)
    if isinstance(value, nn.Module):
        # Most attributes of a module are dictionaries without an entry.
        held = [
            v
            for v in vars(value).values()
            if type(v) not in PLAIN and (type(v) not in DICTIONARIES or v)
        ]
        return held if _holds_none(kind) else [*held, kind]
    if isinstance(value, CONTAINERS):
        if len(value) > LONGEST_CONTAINER:
            return ()
        return value.values() if isinstance(value, dict) else value
    if isinstance(value, MethodType | BuiltinMethodType):
        return (value.__self__,)
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, FunctionType):
        return _closed_over_by(value)
    if _holds_none(value if isinstance(value, type) else kind):
        return ()
    if isinstance(value, type):
        # Nothing else, because a class leads to most of a program.
        own = [
            v for v in vars(value).values() if type(v) not in PLAIN and not isinstance(v, HOLDERS)
        ]
        return [*(v for v in own if isinstance(v, KINDS)), *value.__bases__]
    return [*getattr(value, "__dict__", {}).values(), *_slots_of(value), kind]


def _closed_over_by(function: FunctionType) -> list[Any]:
    found = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # a name that has no value yet
            continue
    return found


def _slots_of(value: Any) -> list[Any]:
    return [
        getattr(value, name, None)
        for base in type(value).__mro__
        if "__slots__" in vars(base)
        for name, slot in vars(base).items()
        if isinstance(slot, MemberDescriptorType)
    ]


def _holds_none(kind: type) -> bool:
    """Return whether a class is torch's or built in: only modules among them hold generators."""
    return kind.__module__.partition(".")[0] in ("torch", "builtins")


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
