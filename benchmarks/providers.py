"""List the providers of each objective: fastclip's first, then other libraries'."""

from fastclip.benchmarks import ours, peers
from fastclip.benchmarks.family.losses import LOSSES, providers_of
from fastclip.benchmarks.gpu import peers as gpu_peers
from fastclip.benchmarks.own import is_own, own_provider
from fastclip.benchmarks.provider import Provider, needs
from fastclip.ops.dispatch import ORDER

OBJECTIVES = ("clip", "siglip")


def providers(objective: str) -> tuple[Provider, ...]:
    """Return all providers of "clip", "siglip" or a loss of the family, fastclip's first."""
    if objective in LOSSES:
        return providers_of(objective)
    found = {"clip": _clip_peers, "siglip": _siglip_peers}[objective]()
    return (*_ours(objective), *found)


def find_provider(objective: str, name: str) -> Provider:
    """Return a provider by its name, or by the place of a user's function (`own.py`).

    Raises:
        ValueError: there is no such provider; the message names the known ones.
    """
    if is_own(name):
        return own_provider(objective, name)
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
    # Fusion saves about a third of the eager code's matrices: 2 to 3 were measured, not 4 or 5.
    return Provider(
        f"{eager.name}+compile", eager.objective, eager.build, eager.own_objection,
        matrices=eager.matrices - 1, compiled=True,
    )  # fmt: skip
