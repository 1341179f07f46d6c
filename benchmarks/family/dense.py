"""The family's formulas in eager PyTorch with all scores at once, as in the papers' code."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.benchmarks.family.inputs import prefixes_of

MINUS_INFINITY = float("-inf")


def clip(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    return _both_directions(scale * images @ texts.T)


def siglip(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits = scale * images @ texts.T + bias
    signs = 2 * torch.eye(len(images), dtype=logits.dtype, device=logits.device) - 1
    return -F.logsigmoid(signs * logits).sum() / len(images)


def distill(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    teacher_images: Tensor,
    teacher_texts: Tensor,
    teacher_scale: Tensor,
) -> Tensor:
    logits = scale * images @ texts.T
    teacher = teacher_scale * teacher_images @ teacher_texts.T
    of_images = F.cross_entropy(logits, teacher.softmax(1))
    of_texts = F.cross_entropy(logits.T, teacher.T.softmax(1))
    return _both_directions(logits) + (of_images + of_texts) / 2


def matryoshka(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    return sum(
        clip(unit(images[:, :dim]), unit(texts[:, :dim]), scale)
        for dim in prefixes_of(images.shape[1])
    )


def info_nce(queries: Tensor, keys: Tensor, scale: Tensor) -> Tensor:
    return _own_column(scale * unit(queries) @ unit(keys).T)


def nt_xent(z0: Tensor, z1: Tensor, scale: Tensor) -> Tensor:
    N, z = len(z0), unit(torch.cat([z0, z1]))
    scores = (scale * z @ z.T).masked_fill(_eye(2 * N, z), MINUS_INFINITY)
    return F.cross_entropy(scores, torch.arange(2 * N, device=z.device).roll(N))


def dcl(z0: Tensor, z1: Tensor, scale: Tensor) -> Tensor:
    z0, z1 = unit(z0), unit(z1)
    z = torch.cat([z0, z1])
    same_sample = _eye(len(z0), z).repeat(2, 2)
    negatives = (scale * z @ z.T).masked_fill(same_sample, MINUS_INFINITY).logsumexp(1)
    return negatives.mean() - (scale * (z0 * z1).sum(1)).mean()


def info_loob(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    scores = scale * unit(images) @ unit(texts).T
    negatives = scores.masked_fill(_eye(len(images), scores), MINUS_INFINITY)
    both = (negatives.logsumexp(1) + negatives.logsumexp(0)) / 2
    return (both - scores.diagonal()).mean()


def sup_con(features: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    x = unit(features)
    scores, itself = scale * x @ x.T, _eye(len(x), x)
    log_p = scores - scores.masked_fill(itself, MINUS_INFINITY).logsumexp(1, keepdim=True)
    positives = (labels[:, None] == labels) & ~itself
    num = positives.sum(1)
    has_positive = num > 0
    losses = -(log_p * positives).sum(1)[has_positive] / num[has_positive]
    return losses.sum() / has_positive.sum().clamp(min=1)


def uni_cl(images: Tensor, texts: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    scores = scale * unit(images) @ unit(texts).T
    positives = (labels[:, None] == labels).to(scores.dtype)
    targets = positives / positives.sum(1, keepdim=True)
    return (F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, targets)) / 2


def modalities(
    images: Tensor, texts: Tensor, sounds: Tensor, has_sound: Tensor, scale: Tensor
) -> Tensor:
    images, texts, sounds = unit(images), unit(texts), unit(sounds)
    return (clip(images, texts, scale) + clip(images[has_sound], sounds[has_sound], scale)) / 2


def queue(queries: Tensor, keys: Tensor, old: Tensor, scale: Tensor) -> Tensor:
    return _own_column(scale * unit(queries) @ unit(torch.cat([keys, old])).T)


def sog_clr(gamma: float = 0.8) -> Callable[..., Tensor]:
    """Return SogCLR's loss, with logarithms of averages, because float32 exponentials overflow.

    Each call forgets the averages of earlier calls, as if it were the first one of its samples.
    """
    averages = {}

    def loss(images: Tensor, texts: Tensor, indices: Tensor, scale: Tensor) -> Tensor:
        N = len(images)
        if N not in averages:
            averages[N] = images.new_empty(2, N)
        averages[N].fill_(MINUS_INFINITY)
        cosines = unit(images) @ unit(texts).T
        differences = (scale * (x - x.diagonal()[:, None]) for x in (cosines, cosines.T))
        others = (x.masked_fill(_eye(N, x), MINUS_INFINITY) for x in differences)
        log_g = torch.stack([x.logsumexp(1) for x in others]) - math.log(N - 1)
        last, now = averages[N][:, indices], log_g.detach()
        mixed = torch.logaddexp(math.log1p(-gamma) + last, math.log(gamma) + now)
        log_u = torch.where(last == MINUS_INFINITY, now, mixed)
        averages[N][:, indices] = log_u
        ratio = (log_g - log_u).exp()
        return (log_u + ratio - ratio.detach()).mean() / scale

    return loss


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1)


def _own_column(scores: Tensor) -> Tensor:
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def _both_directions(logits: Tensor) -> Tensor:
    return (_own_column(logits) + _own_column(logits.T)) / 2


def _eye(N: int, like: Tensor) -> Tensor:
    return torch.eye(N, dtype=torch.bool, device=like.device)
