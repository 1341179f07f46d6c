"""The CLIP loss with options: terms around the log-sum-exp of the negatives, without more kernels.

For image i among C = N + H texts, H of them extra, with s = logit_scale, eps = label_smoothing and
m = margin; x, y and e are the features of images, texts and extra texts:

    target_i = s <x_i, y_i> - s m
    lse_i    = log(sum_j!=i exp(s <x_i, y_j>) + sum_h exp(s <x_i, e_h>))
    mean_i   = s <x_i, (sum_j y_j + sum_h e_h) / C> - s m / C
    l_i      = softplus(lse_i - target_i) + eps (target_i - mean_i)

which is torch's F.cross_entropy(logits, i, label_smoothing=eps) of a row of C logits whose pair is
the target. For text i likewise among C = N images. With the weights a and b of the directions and w
of the pairs

    loss_i = w_i (a l_i(image to text) + b l_i(text to image))

Ids (`ops/pair_ids.py`) define which images and texts are the same. These are left out of the sums
in lse_i, of mean_i and of C. Or they are positives: with P(i) the texts with i's id and text i, the
target's probability of 1 - eps is shared among P(i),

    l_i      = softplus(lse_i - target_i) + target_i - mean_P + eps (mean_P - mean_i)
    mean_P   = s <x_i, sum_{p in P(i)} y_p / |P(i)|>

Every term but lse is O(B D). Products with a mean are computed as sums, because matrix products
would be rounded by autocast or to TF32.
"""

import torch
from torch import Tensor

from fastclip.ops.clip_means import MeanLogits, mean_logits
from fastclip.ops.clip_options import ClipOptions
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.cross_entropy import CrossEntropy, negative_log_probability
from fastclip.ops.dispatch import plan
from fastclip.ops.merge import merge
from fastclip.ops.pair_ids import in_order
from fastclip.rectangle import BOTH, ROWS, Rectangle, Sides


def cross_entropy_with(
    square: Rectangle,
    options: ClipOptions,
    backend: str,
    workspace: int | None,
    mean: bool = True,
    needs_maximum: bool = False,
) -> CrossEntropy:
    """Return the loss with options of a square of images and texts, like `cross_entropy`.

    Args:
        square: images as rows, texts as columns, pairs on the main diagonal.
        needs_maximum: whether the shifts must be the largest negatives, of both sides.
    """
    wanted = BOTH if needs_maximum else options.sides
    rectangle = square._replace(sides=wanted)
    of_batch, of_extra = shares(workspace, len(square.cols), options.num_extra)
    if options.leave_out:
        positive, shift, total = without_same(rectangle, options, backend, of_batch, needs_maximum)
    else:
        positive, shift, total = _statistics(rectangle, backend, of_batch, needs_maximum)
    maximum = shift
    if needs_maximum and options.add_positives:
        # The largest negative must not be one of the positives.
        with torch.no_grad():
            _, maximum, _ = without_same(rectangle, options, backend, 0, needs_maximum)
    if options.extra_text_features is not None:
        extra = square._replace(cols=options.extra_text_features)
        shift, total, maximum = with_extra_texts(
            shift, total, maximum, extra, backend, of_extra, needs_maximum
        )
    means = mean_logits(square, options, positive, len(square.cols), options.num_extra)
    loss = loss_of_pairs(options, wanted, square.logit_scale, positive, shift, total, means)
    return CrossEntropy(loss.mean() if mean else loss, positive.detach(), maximum)


def without_same(
    rectangle: Rectangle,
    options: ClipOptions,
    backend: str,
    workspace: int | None,
    needs_maximum: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `_statistics` of a square without the entries of one id, in the caller's order."""
    here = in_order(rectangle, *options.ids[:2])
    found = _statistics(here.rectangle, backend, workspace, needs_maximum)
    return tuple(map(here.restored, found))


def _statistics(
    rectangle: Rectangle, backend: str, workspace: int | None, needs_maximum: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return positive (B,), shift and total (sides, B)."""
    call = plan("contrastive_lse", backend, rectangle, workspace)
    positive, shift, total, _ = contrastive_lse(rectangle, call, needs_maximum)
    sides = sum(rectangle.sides), -1
    return positive, shift.view(sides), total.view(sides)


def shares(workspace: int | None, num_texts: int, num_extra: int) -> tuple[int | None, int | None]:
    """Divide the workspace between the rectangles of batch and extra texts, by their sizes."""
    if workspace is None:
        return None, None
    of_extra = workspace * num_extra // (num_texts + num_extra)
    return workspace - of_extra, of_extra


def with_extra_texts(
    shift: Tensor,  # (sides, B), of images first
    total: Tensor,  # (sides, B)
    maximum: Tensor,  # (sides, B)
    extra: Rectangle,
    backend: str,
    workspace: int | None,
    needs_maximum: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the statistics after adding the columns of `extra` to the negatives of the images."""
    extra = extra._replace(positives=None, excluded=None, sides=ROWS)
    _, extra_shift, extra_total = _statistics(extra, backend, workspace, needs_maximum)
    of_images = merge([(shift[0], total[0]), (extra_shift[0], extra_total[0])])
    largest = torch.maximum(maximum[0], extra_shift[0])
    joined = zip((*of_images, largest), (shift, total, maximum), strict=True)
    return tuple(torch.cat((first[None], before[1:])) for first, before in joined)


def loss_of_pairs(
    options: ClipOptions,
    wanted: Sides,
    logit_scale: Tensor,
    positive: Tensor,  # (B,)
    shift: Tensor,  # (sides, B), of images first
    total: Tensor,  # (sides, B)
    means: MeanLogits,
) -> Tensor:  # (B,)
    def of_sides(both: Tensor) -> Tensor:
        return torch.stack([x for x, is_wanted in zip(both, wanted, strict=True) if is_wanted])

    target = positive - options.margin * logit_scale
    losses = negative_log_probability(target, shift, total)
    if means.of_positives is not None:
        of_positives = of_sides(means.of_positives)
        losses, target = losses + (target - of_positives), of_positives
    if means.of_all is not None:
        losses = losses + options.label_smoothing * (target - of_sides(means.of_all))
    factors = [x for x, is_wanted in zip(options.direction_weights, wanted, strict=True)
               if is_wanted]  # fmt: skip
    loss = sum(factor * loss for factor, loss in zip(factors, losses, strict=True))
    return loss if options.weights is None else options.weights * loss
