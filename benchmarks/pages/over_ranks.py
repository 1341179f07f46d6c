"""Compute the gradient that an optimiser sees over several ranks, after DDP's mean.

Each rank has its own pairs, encodes them with the same two linear encoders, calls the loss and
averages the gradients of its parameters over ranks, as DistributedDataParallel does. The truth is
the gradient of one process that has the pairs of all ranks.

    ratio    <gradient, truth> / |truth|^2         1 is right
    error    |gradient - ratio * truth| / |truth|  0 where the direction is right
"""

import functools
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import fastclip

RANKS, PAIRS, D, LOGIT_SCALE = 4, 8, 16, 10.0
MODES = {
    "open_clip, neither flag (the default)": ("open_clip", {}),
    "open_clip, `--local-loss`": ("open_clip", {"local_loss": True}),
    "open_clip, `--gather-with-grad`": ("open_clip", {"gather_with_grad": True}),
    "open_clip, both flags": ("open_clip", {"local_loss": True, "gather_with_grad": True}),
    "fastclip, any flags": ("fastclip", {}),
    'fastclip, `schedule="ring"`': ("fastclip", {"schedule": "ring"}),
}


class Compared(NamedTuple):
    """The ratio and the error of the encoders' gradient, and the ratio of the scale's gradient."""

    ratio: float
    error: float
    scale_ratio: float


def gradient_of_rank(
    group: dist.ProcessGroup | None, library: str, flags: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Return the gradients of both encoders (2, D, D) and of the scale (), averaged over ranks.

    Args:
        group: all RANKS ranks of torch.distributed; None means one process with all pairs.
        library: "fastclip" or "open_clip", whose `ClipLoss` is called.
        flags: the arguments of its constructor.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, RANKS, PAIRS, D, generator=generator, dtype=torch.float64)
    encoders = torch.randn(2, D, D, generator=generator, dtype=torch.float64).requires_grad_()
    scale = torch.tensor(LOGIT_SCALE, dtype=torch.float64, requires_grad=True)
    own = inputs.flatten(1, 2) if group is None else inputs[:, group.rank()]
    images, texts = F.normalize(own @ encoders, dim=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, about open_clip's all_gather
        loss = _loss(library, group, flags)(images, texts, scale)
    gradients = torch.autograd.grad(loss, (encoders, scale))
    if group is not None:
        for gradient in gradients:
            dist.all_reduce(gradient, group=group)
            gradient /= group.size()
    return gradients


def compare(gradients: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor]) -> Compared:
    ratio, scale_ratio = (
        float((g * t).sum() / (t * t).sum()) for g, t in zip(gradients, truth, strict=True)
    )
    error = (gradients[0] - ratio * truth[0]).norm() / truth[0].norm()
    return Compared(ratio, float(error), scale_ratio)


def compare_modes() -> dict[str, Compared]:
    """Compare all modes, in RANKS processes with gloo; this needs open_clip_torch."""
    with tempfile.TemporaryDirectory() as directory:
        torch.multiprocessing.spawn(_write, (Path(directory),), nprocs=RANKS)
        found = torch.load(Path(directory) / "gradients.pt")
    truth = gradient_of_rank(None, "fastclip", {})
    return {name: compare(gradients, truth) for name, gradients in found.items()}


def _write(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", f"file://{directory}/store", world_size=RANKS, rank=rank)
    found = {name: gradient_of_rank(dist.group.WORLD, *mode) for name, mode in MODES.items()}
    if rank == 0:
        torch.save(found, directory / "gradients.pt")
    dist.destroy_process_group()


def _loss(library: str, group: dist.ProcessGroup | None, flags: Mapping[str, Any]) -> nn.Module:
    if library == "fastclip":
        of_group = {"world_size": 1} if group is None else {"process_group": group}
        return fastclip.ClipLoss(**of_group, **flags)
    return _open_clip_loss()(rank=group.rank(), world_size=group.size(), **flags)


@functools.cache
def _open_clip_loss() -> type[nn.Module]:
    """Load open_clip's ClipLoss from its file, because importing the package takes seconds."""
    package = importlib.util.find_spec("open_clip")
    if package is None:
        raise ModuleNotFoundError("the table needs open_clip: pip install open_clip_torch")
    path = Path(package.origin).with_name("loss.py")
    spec = importlib.util.spec_from_file_location("loss_of_open_clip", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ClipLoss
