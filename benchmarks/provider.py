"""A provider: one implementation of a loss in a benchmark.

`load(provider)` imports the provider's library and returns a function of the objective's inputs to
a scalar: (image_features, text_features, logit_scale) for "clip", and logit_bias as well for
"siglip". `provider.objection(case)` says beforehand, without importing anything, why the provider
cannot run, so that a missing library becomes a row with its reason.
"""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.host import available_bytes

Loss = Callable[..., Tensor]
Objection = Callable[[Case], str | None]


def no_objection(case: Case) -> str | None:
    return None


def needs(module: str, on: str | None = None) -> Objection:
    """Return an objection to cases where `module` is missing, or to other devices than `on`."""

    def objection(case: Case) -> str | None:
        if on is not None and case.device != on:
            return f"runs on {on} only"
        # This looks for the module without importing it.
        return None if importlib.util.find_spec(module) else f"{module} is not installed"

    return objection


@dataclass(frozen=True)
class Provider:
    """One implementation of one objective: "clip", "siglip", or a loss of the family by its name.

    build: imports the library and returns the loss.
    matrices: how many N x N matrices the loss holds at its peak, so that a case that cannot fit is
        refused and does not exhaust the machine's memory; 0 if memory is linear in N.
    compiled: the loss runs under torch.compile; its first call for each shape takes tens of
        seconds.
    normalizes: the loss takes `normalize=True`; otherwise `F.normalize` is called before it.
    inputs: makes the inputs for a case, if they are not the objective's features and scalars;
        inputs that are constants do not require a gradient.
    only_here: the loss is a function of this process, which other processes cannot import.
    """

    name: str
    objective: str
    build: Callable[[], Loss]
    own_objection: Objection = no_objection
    matrices: int = 0
    compiled: bool = False
    normalizes: bool = False
    inputs: Callable[[Case], tuple[Tensor, ...]] | None = None
    only_here: bool = False

    def objection(self, case: Case) -> str | None:
        return self.own_objection(case) or self._too_large(case)

    def _too_large(self, case: Case) -> str | None:
        return too_large(self.matrices * max(4, case.dtype.itemsize) * case.N**2, case)


def too_large(needed: float, case: Case) -> str | None:
    """Return an objection if so many bytes are not available on the case's device."""
    available = available_bytes(case.device)
    if available is None or needed <= available:
        return None
    return f"needs about {needed / 2**30:,.0f} GiB, but {available / 2**30:.0f} GiB are available"


@functools.cache
def load(provider: Provider, normalize: bool = False) -> Loss:
    loss = provider.build()
    if normalize:
        loss = _of_normalized(loss, provider.normalizes)
    # Specialising to each shape gives the fastest code that torch.compile has to offer.
    return torch.compile(loss, dynamic=False) if provider.compiled else loss


def _of_normalized(loss: Loss, normalizes: bool) -> Loss:
    if normalizes:
        return functools.partial(loss, normalize=True)

    def of_normalized(image_features: Tensor, text_features: Tensor, *scalars: Tensor) -> Tensor:
        features = [F.normalize(x, dim=1) for x in (image_features, text_features)]
        return loss(*features, *scalars)

    return of_normalized
