"""Means of logits for the options of the CLIP loss, in O(B D). Mathematics: `clip_terms.py`.

Products with a mean are computed as sums, because matrix products would be rounded by autocast or
to TF32.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.backends.normalization import prepared_rows
from fastclip.ops.clip_options import ClipOptions
from fastclip.ops.same_sums import Gathered, SameSums, of_this_process, same_sums
from fastclip.rectangle import Rectangle


class MeanLogits(NamedTuple):
    """Means of each image's and of each text's logits, (2, B), or None if no option needs them.

    of_positives: over the positives, where ids define these.
    of_all: over all entries that are not left out, for label smoothing.
    """

    of_positives: Tensor | None = None
    of_all: Tensor | None = None


class _Side(NamedTuple):
    features: Tensor  # (B, D), as they are multiplied
    partners: Tensor  # (B, D), of the other side
    same: SameSums | None


def mean_logits(
    square: Rectangle,
    options: ClipOptions,
    positive: Tensor,  # (B,)
    num_pairs: int,
    num_extra: int,
    total: Callable[[Tensor], Tensor] = of_this_process,
    gathered: Gathered = of_this_process,
) -> MeanLogits:
    """Return the means that the options need.

    Args:
        square: the square of this process, images as rows, in the caller's order.
        positive: the logits of its pairs.
        num_pairs, num_extra: N and H, of all processes.
        total: adds up the sums of all processes, given the sums of this process, (2, D).
        gathered: gathers the rows of all processes, given the rows of this process, (B, ...).
    """
    smooths = options.label_smoothing > 0
    if not (smooths or options.add_positives):
        return MeanLogits()
    images, texts = (prepared_rows(features, square.normalize) for features in square[:2])
    same = None, None
    if options.ids is not None:
        same = same_sums(images, texts, options.ids.on(images.device), gathered)
    sides = _Side(images, texts, same[0]), _Side(texts, images, same[1])
    scale, of_positives, of_all = square.logit_scale, None, None
    if options.add_positives:
        of_positives = torch.stack([_of_positives(side, scale, positive) for side in sides])
    if smooths:
        of_texts = texts.sum(0)
        if options.extra_text_features is not None:
            extra = prepared_rows(options.extra_text_features, square.normalize)
            of_texts = of_texts + extra.sum(0)
        sums = total(torch.stack((of_texts, images.sum(0))))
        counts = num_pairs + num_extra, num_pairs
        of_sides = zip(sides, sums, counts, strict=True)
        of_all = torch.stack([_of_all(*of_side, scale, options) for of_side in of_sides])
    return MeanLogits(of_positives, of_all)


def _of_positives(side: _Side, scale: Tensor, positive: Tensor) -> Tensor:  # (B,)
    sums, counts, own = side.same
    sums, counts = torch.where(own[:, None], sums, sums + side.partners), counts + ~own
    mean = scale * (side.features * sums).sum(1) / counts
    # A single positive is its mean to the bit, so that a small loss keeps its digits.
    return torch.where(counts == 1, positive, mean)


def _of_all(
    side: _Side, sum_of_all: Tensor, C: int, scale: Tensor, options: ClipOptions
) -> Tensor:  # (B,)
    if not options.leave_out:
        products = (side.features * (sum_of_all / C)).sum(1)
        return scale * (products - options.margin / C)
    sums, counts, own = side.same
    left_out = torch.where(own[:, None], sums - side.partners, sums)
    C = C - counts + own.to(counts.dtype)
    products = (side.features * (sum_of_all - left_out)).sum(1)
    return scale * (products - options.margin) / C
