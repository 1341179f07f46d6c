"""Repeats a forward exactly: whatever both forwards depend on is restored before the second one.

    random numbers   of all generators that are found (`random_state.py`)
    buffers          that forwards change, such as a running mean that centres the features

Afterwards all of these are as the first forwards left them, so that samples count once. Batch
normalisation in training does not read its running statistics, and does not write them in the
second forward.
"""

from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastclip.models.parts.batch_norm import batch_norms, without_statistics
from fastclip.train.step.random_state import RandomState, generators_of


class Held(NamedTuple):
    """A buffer of a module, and a copy of its values when its version was `version`."""

    tensor: Tensor | None
    copy: Tensor | None
    version: int


class Mark(NamedTuple):
    """The state between two forwards, to which `Replay` can go back."""

    random_state: RandomState
    buffers: list[Held]


class Replay:
    """Saves the state between forwards of a model, and goes back to it.

    Args:
        model: the model, whose generators and buffers are found in its whole tree of modules.
        others: other objects that a forward calls and that may hold generators.
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
        """Return the state between forwards at this moment. Only changed buffers are copied."""
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
        """Go back to `mark`, and return a context in which a forward repeats the one after it."""
        self.go_back(mark)
        return without_statistics(self._norms)


def _held(buffer: Tensor | None) -> Held:
    if buffer is None:
        return Held(None, None, -1)
    return Held(buffer, buffer.clone(), _version(buffer))


def _is_as_it_was(held: Held, buffer: Tensor | None) -> bool:
    """Return whether a buffer is unchanged, by its version; comparing values would need a wait."""
    return held.tensor is buffer and (buffer is None or held.version == _version(buffer))


def _version(buffer: Tensor) -> int:
    return 0 if buffer.is_inference() else buffer._version
