"""The other libraries' classes that fastclip's can replace, called as their users call them.

    open_clip                 3.3.0: ClipLoss, SigLipLoss, DistillClipLoss; Matryoshka as a loop
    lightly                   1.6.0: NTXentLoss, DCLLoss
    pytorch-metric-learning   2.9.0: NTXentLoss, SupConLoss; CrossBatchMemory around SupConLoss,
                              which takes quadratic memory (around NTXentLoss, cubic memory)
    sentence-transformers     6.2.0: MultipleNegativesRankingLoss

Each function imports its library and returns a loss that takes the inputs of `inputs.py`. These
libraries take temperatures as numbers, so a module is made once for each temperature.
"""

import importlib
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from fastclip.benchmarks import peers
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.family.dense import unit
from fastclip.benchmarks.family.inputs import prefixes_of
from fastclip.benchmarks.provider import needs, too_large
from fastclip.benchmarks.torchvision import make_importable

Loss = Callable[..., Tensor]


def open_clip_distill() -> Loss:
    loss = peers.open_clip_losses().DistillClipLoss()
    return lambda *inputs: sum(loss(*inputs))


def open_clip_matryoshka() -> Loss:
    clip_loss = peers.open_clip()

    def loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
        return sum(
            clip_loss(unit(images[:, :dim]), unit(texts[:, :dim]), scale)
            for dim in prefixes_of(images.shape[1])
        )

    return loss


def lightly(name: str) -> Callable[[], Loss]:
    def build() -> Loss:
        make_importable()
        losses = importlib.import_module("lightly.loss")
        made = cache(getattr(losses, name))
        return lambda z0, z1, scale: made(1 / scale.item())(z0, z1)

    return build


def metric_learning_nt_xent() -> Loss:
    made = cache(importlib.import_module("pytorch_metric_learning.losses").NTXentLoss)

    def loss(z0: Tensor, z1: Tensor, scale: Tensor) -> Tensor:
        samples = torch.arange(len(z0), device=z0.device).repeat(2)
        return made(1 / scale.item())(torch.cat([z0, z1]), samples)

    return loss


def metric_learning_nt_xent_objection(case: Case) -> str | None:
    """Return an objection, because each positive meets all negatives: five times 8 N^3 numbers."""
    missing = needs("pytorch_metric_learning")(case)
    return missing or too_large(5 * 8 * case.N**3 * max(4, case.dtype.itemsize), case)


def metric_learning_sup_con() -> Loss:
    made = cache(importlib.import_module("pytorch_metric_learning.losses").SupConLoss)
    return lambda features, labels, scale: made(1 / scale.item())(features, labels)


def metric_learning_memory() -> Loss:
    """Return a loss of queries whose only positive is their key, which first enters the memory.

    The position in the memory is reset before each call, so that old keys are never replaced.
    """
    losses = importlib.import_module("pytorch_metric_learning.losses")

    @cache
    def made(size: int, D: int, scale: float) -> torch.nn.Module:
        return losses.CrossBatchMemory(losses.SupConLoss(1 / scale), D, size)

    def loss(queries: Tensor, keys: Tensor, old: Tensor, scale: Tensor) -> Tensor:
        N, num_old = len(queries), len(old)
        memory = made(num_old + N, old.shape[1], scale.item())
        samples = torch.arange(N + num_old, device=old.device)
        if not memory.has_been_filled:
            memory.to(old.dtype)
            memory.add_to_memory(old, samples[N:], num_old)
        memory.queue_idx, memory.has_been_filled = num_old, False
        is_key = samples.new_ones(2 * N, dtype=torch.bool)
        is_key[:N] = False
        of_batch = torch.cat([queries, keys])
        return memory(of_batch, samples[:N].repeat(2), enqueue_mask=is_key)

    return loss


def sentence_transformers() -> Loss:
    make_importable()
    losses = importlib.import_module("sentence_transformers.sentence_transformer.losses")

    @cache
    def made(scale: float) -> torch.nn.Module:
        return losses.MultipleNegativesRankingLoss(None, scale=scale)

    def loss(queries: Tensor, documents: Tensor, scale: Tensor) -> Tensor:
        return made(scale.item()).compute_loss_from_embeddings([queries, documents], None)

    return loss
