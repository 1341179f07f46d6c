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
import torch.nn.functional as F
from torch import Tensor

from fastclip.benchmarks import ours, peers
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.gpu import peers as gpu_peers
from fastclip.benchmarks.host import available_bytes
from fastclip.ops.dispatch import ORDER

OBJECTIVES = ("clip", "siglip")

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
    """One implementation of one objective.

    build: imports the host and returns the loss.
    matrices: how many N x N matrices it holds at its peak, so that a case which cannot fit is
        declined instead of taking the machine down; 0 where memory is linear in N.
    compiled: run it under torch.compile; its first call for each shape takes tens of seconds.
    normalizes: the loss takes `normalize=True`; for one that does not, `F.normalize` comes first.
    """

    name: str
    objective: str
    build: Callable[[], Loss]
    own_objection: Objection = no_objection
    matrices: int = 0
    compiled: bool = False
    normalizes: bool = False

    def objection(self, case: Case) -> str | None:
        return self.own_objection(case) or self._too_large(case)

    def _too_large(self, case: Case) -> str | None:
        needed = self.matrices * max(4, case.dtype.itemsize) * case.N**2
        available = available_bytes(case.device)
        if available is None or needed <= available:
            return None
        return f"needs about {needed / 2**30:.0f} GiB, {available / 2**30:.0f} GiB are available"


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
        found.append(Provider(name, objective, build, objection, matrices, normalizes=True))
        for suffix, (workspace, holds) in ours.WORKSPACES.get(backend, {}).items():
            build = ours.build(objective, backend, workspace)
            found.append(
                Provider(name + suffix, objective, build, objection, holds, normalizes=True)
            )
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
    fused = [
        Provider("inf-cl", "clip", gpu_peers.inf_cl, needs("inf_cl", on="cuda")),
        Provider("memeff", "clip", gpu_peers.memeff, needs("memeff", on="cuda")),
        Provider(
            "cut-cross-entropy", "clip", gpu_peers.cut_cross_entropy,
            needs("cut_cross_entropy", on="cuda"),
        ),
        Provider("liger", "clip", gpu_peers.liger, needs("liger_kernel", on="cuda")),
    ]  # fmt: skip
    return [*eager, *map(_under_compile, eager), *linear, *checkpoint, *fused]


def _siglip_peers() -> list[Provider]:
    eager = Provider("open_clip", "siglip", peers.open_clip_siglip, needs("open_clip"), 5)
    fused = Provider(
        "siglip-kernel", "siglip", gpu_peers.siglip_kernel, needs("siglip_kernel", on="cuda")
    )
    return [eager, _under_compile(eager), fused]


def _under_compile(eager: Provider) -> Provider:
    # Fusion saves about a third of the eager code's matrices (measured, 2 to 3 of 4 and 5).
    return Provider(
        f"{eager.name}+compile", eager.objective, eager.build, eager.own_objection,
        matrices=eager.matrices - 1, compiled=True,
    )  # fmt: skip
