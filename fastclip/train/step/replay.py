"""A second forward that is to be the first one again: what both depend on is taken back in between.

    random numbers   of all generators that are found (`random_state.py`)
    buffers          that forwards change, such as a running mean that features are centred by

Afterwards all of it is as the first forwards left it: samples have counted once. Batch
normalisation in training does not read its running statistics, and is not asked to write them.
"""

from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastclip.models.parts.batch_norm import batch_norms, without_statistics
from fastclip.train.step.random_state import RandomState, generators_of


class Held(NamedTuple):
    """A buffer of a module, and a copy of what it held when its version was `version`."""

    tensor: Tensor | None
    copy: Tensor | None
    version: int


class Mark(NamedTuple):
    """A place between two forwards that `Replay` can go back to."""

    random_state: RandomState
    buffers: list[Held]


class Replay:
    """Marks places between forwards of a model, and goes back to them.

    Args:
        model: its generators and buffers are those of its whole tree of modules.
        others: whatever else a forward calls, and may hold generators.
    """

    def __init__(self, model: nn.Module, *others: object) -> None:
        self._generators = generators_of(model, *others)
        self._norms = [bn for bn in batch_norms(model) if bn.training]
        apart = {id(bn) for bn in self._norms}
        self._places = [
            (module._buffers, name)
            for module in model.modules()
            if module._buffers and id(module) not in apart
            for name in module._buffers
        ]
        self._last = [Held(None, None, -1)] * len(self._places)

    def mark(self) -> Mark:
        """The place between forwards that the model is at. Only what has changed is copied."""
        with torch.no_grad():
            self._last = [
                held if _is_as_it_was(held, buffers[name]) else _held(buffers[name])
                for held, (buffers, name) in zip(self._last, self._places, strict=True)
            ]
        return Mark(RandomState(self._generators), self._last)

    def go_back(self, mark: Mark) -> None:
        mark.random_state.restore()
        with torch.no_grad():
            for held, (buffers, name) in zip(mark.buffers, self._places, strict=True):
                if not _is_as_it_was(held, buffers[name]):
                    if held.tensor is not None:
                        held.tensor.copy_(held.copy)
                    buffers[name] = held.tensor

    def again(self, mark: Mark) -> AbstractContextManager[None]:
        """A context in which a forward is what it was after `mark`."""
        self.go_back(mark)
        return without_statistics(self._norms)


def _held(buffer: Tensor | None) -> Held:
    if buffer is None:
        return Held(None, None, -1)
    return Held(buffer, buffer.clone(), _version(buffer))


def _is_as_it_was(held: Held, buffer: Tensor | None) -> bool:
    """By its counter of changes: to look at what is in it would be to wait for the device."""
    return held.tensor is buffer and (buffer is None or held.version == _version(buffer))


def _version(buffer: Tensor) -> int:
    return 0 if buffer.is_inference() else buffer._version
