"""Providers: the implementations of a loss that a benchmark compares, and why one sits out.

`load(provider)` imports its host and returns a function of (image_features, text_features,
logit_scale), and logit_bias for "siglip", to a scalar. `provider.objection(case)` says beforehand,
without importing anything, why it would not run; so a missing peer is a row with its reason.
"""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastclip.benchmarks import ours, peers
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.host import available_bytes
from fastclip.ops.dispatch import ORDER

OBJECTIVES = ("clip", "siglip")

Loss = Callable[..., Tensor]
Objection = Callable[[Case], str | None]


def no_objection(case: Case) -> str | None:
    return None


def needs(module: str) -> Objection:
    """Objects where `module` is not installed; looks for it without running it."""

    def objection(case: Case) -> str | None:
        return None if importlib.util.find_spec(module) else f"{module} is not installed"

    return objection


@dataclass(frozen=True)
class Provider:
    """One implementation of one objective.

    build: imports the host and returns the loss.
    matrices: how many N x N matrices it holds at its peak, so that a case which cannot fit is
        declined instead of taking the machine down; 0 where memory is linear in N.
    compiled: run it under torch.compile; its first call for each shape takes tens of seconds.
    """

    name: str
    objective: str
    build: Callable[[], Loss]
    own_objection: Objection = no_objection
    matrices: int = 0
    compiled: bool = False

    def objection(self, case: Case) -> str | None:
        return self.own_objection(case) or self._too_large(case)

    def _too_large(self, case: Case) -> str | None:
        needed = self.matrices * max(4, case.dtype.itemsize) * case.N**2
        available = available_bytes()
        if available is None or needed <= available:
            return None
        return f"needs about {needed / 2**30:.0f} GiB, {available / 2**30:.0f} GiB are available"


@functools.cache
def load(provider: Provider) -> Loss:
    loss = provider.build()
    # Specialised to each shape: the fastest that torch.compile has to offer.
    return torch.compile(loss, dynamic=False) if provider.compiled else loss


def providers(objective: str) -> tuple[Provider, ...]:
    """All providers of "clip" or "siglip", ours first."""
    found = {"clip": _clip_peers, "siglip": _siglip_peers}[objective]()
    return (*_ours(objective), *found)


def find_provider(objective: str, name: str) -> Provider:
    """Raises ValueError, naming the known ones, if there is no such provider."""
    known = {provider.name: provider for provider in providers(objective)}
    if name not in known:
        raise ValueError(f"provider must be one of {tuple(known)}, got {name!r}")
    return known[name]


def _ours(objective: str) -> list[Provider]:
    found = []
    for backend in ORDER:
        name, objection = f"fastclip/{backend}", ours.objection(backend)
        matrices = 4 if backend == "reference" else 0
        build = ours.build(objective, backend)
        found.append(Provider(name, objective, build, objection, matrices))
        for suffix, workspace in ours.WORKSPACES.get(backend, {}).items():
            build = ours.build(objective, backend, workspace)
            matrices = int(workspace is ours.all_logits_bytes)
            found.append(Provider(name + suffix, objective, build, objection, matrices))
    return found


def _clip_peers() -> list[Provider]:
    chunked = peers.lacks_linear_cross_entropy
    eager = [
        Provider("open_clip", "clip", peers.open_clip, needs("open_clip"), 4),
        Provider("transformers", "clip", peers.transformers, needs("transformers"), 5),
    ]
    linear = [
        Provider("linear_cross_entropy", "clip", peers.linear_cross_entropy(), chunked),
        Provider("linear_cross_entropy/1024", "clip", peers.linear_cross_entropy(1024), chunked),
    ]
    checkpoint = [
        Provider("checkpoint/one-pass", "clip", lambda: peers.checkpoint_one_pass),
        Provider("checkpoint/two-passes", "clip", lambda: peers.checkpoint_two_passes),
    ]
    return [*eager, *map(_under_compile, eager), *linear, *checkpoint]


def _siglip_peers() -> list[Provider]:
    eager = Provider("open_clip", "siglip", peers.open_clip_siglip, needs("open_clip"), 5)
    return [eager, _under_compile(eager)]


def _under_compile(eager: Provider) -> Provider:
    # Fusion saves about a third of the eager code's matrices (measured, 2 to 3 of 4 and 5).
    return Provider(
        f"{eager.name}+compile", eager.objective, eager.build, eager.own_objection,
        matrices=eager.matrices - 1, compiled=True,
    )  # fmt: skip
