"""fastclip's losses, called with the inputs of `inputs.py`."""

from collections.abc import Callable

from torch import Tensor

import fastclip
from fastclip.benchmarks.family.inputs import prefixes_of


def distill(images: Tensor, texts: Tensor, scale: Tensor, *teacher: Tensor) -> Tensor:
    return sum(fastclip.distill_clip_loss(images, texts, scale, *teacher))


def matryoshka(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    return fastclip.matryoshka_clip_loss(images, texts, scale, prefixes_of(images.shape[1]))


def matryoshka_in_a_loop(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Compute the Matryoshka loss as a user of `clip_loss` would write it."""
    return sum(
        fastclip.clip_loss(images[:, :dim], texts[:, :dim], scale, normalize=True)
        for dim in prefixes_of(images.shape[1])
    )


def info_nce(queries: Tensor, keys: Tensor, scale: Tensor) -> Tensor:
    return fastclip.info_nce_loss(queries, keys, logit_scale=scale)


def nt_xent(z0: Tensor, z1: Tensor, scale: Tensor) -> Tensor:
    return fastclip.nt_xent_loss(z0, z1, logit_scale=scale)


def dcl(z0: Tensor, z1: Tensor, scale: Tensor) -> Tensor:
    return fastclip.dcl_loss(z0, z1, logit_scale=scale)


def info_loob(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    return fastclip.info_loob_loss(images, texts, logit_scale=scale)


def sup_con(features: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    return fastclip.sup_con_loss(features, labels, logit_scale=scale)


def uni_cl(images: Tensor, texts: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    return fastclip.uni_cl_loss(images, texts, labels, logit_scale=scale)


def multiple_negatives(queries: Tensor, documents: Tensor, scale: Tensor) -> Tensor:
    return fastclip.multiple_negatives_loss(queries, documents, logit_scale=scale)


def modalities(
    images: Tensor, texts: Tensor, sounds: Tensor, has_sound: Tensor, scale: Tensor
) -> Tensor:
    return fastclip.modalities_loss(
        {"image": images, "text": texts, "audio": sounds},
        [("image", "text"), ("image", "audio")],
        logit_scale=scale,
        masks={"audio": has_sound},
    )


def queue() -> Callable[..., Tensor]:
    """Return a loss that restores the old keys in the queue before each call."""
    modules = {}

    def loss(queries: Tensor, keys: Tensor, old: Tensor, scale: Tensor) -> Tensor:
        size, D = old.shape
        if (size, D) not in modules:
            modules[size, D] = fastclip.QueueLoss(D, size, in_batch=True).to(old.dtype)
        modules[size, D].enqueue(old)
        return modules[size, D](queries, keys, logit_scale=scale)

    return loss


def sog_clr() -> Callable[..., Tensor]:
    """Return a loss that forgets the averages of earlier calls before each call."""
    modules = {}

    def loss(images: Tensor, texts: Tensor, indices: Tensor, scale: Tensor) -> Tensor:
        size = len(indices)
        if size not in modules:
            modules[size] = fastclip.SogCLRLoss(size).to(images.dtype)
        modules[size].log_u.fill_(float("-inf"))
        return modules[size](images, texts, indices, scale)

    return loss
