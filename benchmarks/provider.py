"""A provider: one implementation of a loss that a benchmark compares, and why it sits out.

`load(provider)` imports its host and returns a function of the objective's inputs to a scalar: for
"clip" of (image_features, text_features, logit_scale), for "siglip" of logit_bias too.
`provider.objection(case)` says beforehand, without importing anything, why it would not run; so a
missing peer is a row with its reason.
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
    """Objects where `module` is not installed, or the case is not on the device it is for."""

    def objection(case: Case) -> str | None:
        if on is not None and case.device != on:
            return f"runs on {on} only"
        # Looks for it without running it.
        return None if importlib.util.find_spec(module) else f"{module} is not installed"

    return objection


@dataclass(frozen=True)
class Provider:
    """One implementation of one objective: "clip", "siglip", or a loss of the family by its name.

    build: imports the host and returns the loss.
    matrices: how many N x N matrices it holds at its peak, so that a case which cannot fit is
        declined instead of taking the machine down; 0 where memory is linear in N.
    compiled: run it under torch.compile; its first call for each shape takes tens of seconds.
    normalizes: the loss takes `normalize=True`; for one that does not, `F.normalize` comes first.
    inputs: what it is called with on a case, where that is not features and scalars of the
        objective; constants among them want no gradient.
    only_here: it is a function of this process, which no other finds by the name.
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
    """Objects where so many bytes are not available on the case's device."""
    available = available_bytes(case.device)
    if available is None or needed <= available:
        return None
    return f"needs about {needed / 2**30:,.0f} GiB, {available / 2**30:.0f} GiB are available"


@functools.cache
def load(provider: Provider, normalize: bool = False) -> Loss:
    loss = provider.build()
    if normalize:
        loss = _of_normalized(loss, provider.normalizes)
    # Specialised to each shape: the fastest that torch.compile has to offer.
    return torch.compile(loss, dynamic=False) if provider.compiled else loss


def _of_normalized(loss: Loss, normalizes: bool) -> Loss:
    if normalizes:
        return functools.partial(loss, normalize=True)

    def of_normalized(image_features: Tensor, text_features: Tensor, *scalars: Tensor) -> Tensor:
        features = [F.normalize(x, dim=1) for x in (image_features, text_features)]
        return loss(*features, *scalars)

    return of_normalized
