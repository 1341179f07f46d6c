"""The CLIP loss with options: terms around the log-sum-exp of the negatives, and no other kernel.

Of image i among C = N + H texts, H of them extra, with s = logit_scale, eps = label_smoothing and
m = margin; x, y and e are the features of images, texts and extra texts:

    target_i = s <x_i, y_i> - s m
    lse_i    = log(sum_j!=i exp(s <x_i, y_j>) + sum_h exp(s <x_i, e_h>))
    mean_i   = s <x_i, (sum_j y_j + sum_h e_h) / C> - s m / C
    l_i      = softplus(lse_i - target_i) + eps (target_i - mean_i)

which is torch's F.cross_entropy(logits, i, label_smoothing=eps) of a row of C logits whose pair is
the target. Of text i likewise among C = N images. With the weights a and b of the directions and w
of the pairs

    loss_i = w_i (a l_i(image to text) + b l_i(text to image))

Every term but lse is O(B D). Products with a mean are sums, not matrix products: those would be
rounded by autocast, or to TF32.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fastclip.backends.normalization import prepared_rows
from fastclip.ops.clip_options import ClipOptions
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.cross_entropy import CrossEntropy, negative_log_probability
from fastclip.ops.dispatch import plan
from fastclip.ops.merge import merge
from fastclip.rectangle import BOTH, ROWS, Rectangle, Sides


def cross_entropy_with(
    square: Rectangle,
    options: ClipOptions,
    backend: str,
    workspace: int | None,
    mean: bool = True,
    needs_maximum: bool = False,
) -> CrossEntropy:
    """The loss of a square of images and texts, as `cross_entropy` returns that without options.

    Args:
        square: images as rows, texts as columns, pairs on the main diagonal.
        needs_maximum: whether the shifts must be the largest negatives, of both sides.
    """
    wanted = BOTH if needs_maximum else options.sides
    rectangle = square._replace(sides=wanted)
    of_batch, of_extra = shares(workspace, len(square.cols), options.num_extra)
    call = plan("contrastive_lse", backend, rectangle, of_batch)
    positive, shift, total, _ = contrastive_lse(rectangle, call, needs_maximum)
    shift, total = (x.view(sum(wanted), -1) for x in (shift, total))
    if options.extra_text_features is not None:
        extra = square._replace(cols=options.extra_text_features)
        shift, total = with_extra_texts(shift, total, extra, backend, of_extra, needs_maximum)
    means = None
    if options.label_smoothing > 0:
        means = mean_logits(square, options, len(square.cols), options.num_extra)
    loss = loss_of_pairs(options, wanted, square.logit_scale, positive, shift, total, means)
    return CrossEntropy(loss.mean() if mean else loss, positive.detach(), shift)


def shares(workspace: int | None, num_texts: int, num_extra: int) -> tuple[int | None, int | None]:
    """The workspace of the batch's rectangle and that of the extra texts': by their sizes."""
    if workspace is None:
        return None, None
    of_extra = workspace * num_extra // (num_texts + num_extra)
    return workspace - of_extra, of_extra


def with_extra_texts(
    shift: Tensor,  # (sides, B), of images first
    total: Tensor,  # (sides, B)
    extra: Rectangle,
    backend: str,
    workspace: int | None,
    needs_maximum: bool,
) -> tuple[Tensor, Tensor]:
    """The statistics after the columns of `extra` have joined the negatives of the images."""
    extra = extra._replace(positives=None, sides=ROWS)
    call = plan("contrastive_lse", backend, extra, workspace)
    _, extra_shift, extra_total, _ = contrastive_lse(extra, call, needs_maximum)
    of_images = merge([(shift[0], total[0]), (extra_shift, extra_total)])
    return tuple(
        torch.cat((joined[None], before[1:]))
        for joined, before in zip(of_images, (shift, total), strict=True)
    )


def mean_logits(
    square: Rectangle,
    options: ClipOptions,
    num_pairs: int,
    num_extra: int,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> tuple[Tensor, Tensor]:
    """What labels are smoothed to: of each image and of each text, the mean of its logits.

    Args:
        square: of this process, images as rows.
        num_pairs, num_extra: N and H, of all processes.
        total: makes of the sums of this process, (2, D), those of all.
    """
    images, texts = (prepared_rows(features, square.normalize) for features in square[:2])
    of_texts = texts.sum(0)
    if options.extra_text_features is not None:
        extra = prepared_rows(options.extra_text_features, square.normalize)
        of_texts = of_texts + extra.sum(0)
    sums = total(torch.stack((of_texts, images.sum(0))))
    counts = num_pairs + num_extra, num_pairs
    return tuple(
        square.logit_scale * ((features * (of_others / C)).sum(1) - options.margin / C)
        for features, of_others, C in zip((images, texts), sums, counts, strict=True)
    )


def loss_of_pairs(
    options: ClipOptions,
    wanted: Sides,
    logit_scale: Tensor,
    positive: Tensor,  # (B,)
    shift: Tensor,  # (sides, B), of images first
    total: Tensor,  # (sides, B)
    means: tuple[Tensor, Tensor] | None,  # (B,) each
) -> Tensor:  # (B,)
    target = positive - options.margin * logit_scale
    losses = negative_log_probability(target, shift, total)
    if means is not None:
        of_sides = torch.stack([x for x, is_wanted in zip(means, wanted, strict=True) if is_wanted])
        losses = losses + options.label_smoothing * (target - of_sides)
    factors = [x for x, is_wanted in zip(options.direction_weights, wanted, strict=True)
               if is_wanted]  # fmt: skip
    loss = sum(factor * loss for factor, loss in zip(factors, losses, strict=True))
    return loss if options.weights is None else options.weights * loss
