"""The losses as functions. Each validates, chooses a backend, calls its primitive and reduces."""

import functools
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, TypedDict, overload

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed import groups
from fastclip.literals import Backend, Direction, Positives, Reduction, Schedule
from fastclip.ops import dispatch, validation
from fastclip.ops import prefix_lse as prefix_lse  # registers an operator for exported programs
from fastclip.ops.clip_options import DIRECTIONS, options_of_batch, options_of_numbers
from fastclip.ops.clip_stats import ClipStats as ClipStats
from fastclip.ops.clip_terms import cross_entropy_with
from fastclip.ops.cross_entropy import cross_entropy
from fastclip.ops.pair_ids import pair_ids, same_pairs
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.ops.sigmoid_with_ids import sigmoid_loss_with_ids
from fastclip.ops.total_sigmoid_loss import total_sigmoid_loss
from fastclip.rectangle import MAIN_DIAGONAL, Rectangle

if TYPE_CHECKING:
    from typing_extensions import Unpack

    class ClipLossOptions(TypedDict, total=False):
        """The options of `clip_loss` that do not change the type of its result."""

        normalize: bool
        backend: Backend
        workspace: int | None
        reduction: Reduction
        process_group: ProcessGroup | None
        schedule: Schedule
        label_smoothing: float
        margin: float
        weights: Tensor | None
        directions: Collection[Direction] | Mapping[Direction, float]
        extra_text_features: Tensor | None
        ids: Tensor | None
        image_ids: Tensor | None
        text_ids: Tensor | None
        positives: Positives

    @overload
    def clip_loss(
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        *,
        return_stats: Literal[False] = False,
        **options: Unpack[ClipLossOptions],
    ) -> Tensor: ...

    @overload
    def clip_loss(
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        *,
        return_stats: Literal[True],
        **options: Unpack[ClipLossOptions],
    ) -> tuple[Tensor, ClipStats]: ...

    @overload
    def clip_loss(
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        *,
        return_stats: bool,
        **options: Unpack[ClipLossOptions],
    ) -> Tensor | tuple[Tensor, ClipStats]: ...


def clip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    *,
    normalize: bool = False,
    backend: Backend = "auto",
    workspace: int | None = None,
    reduction: Reduction = "mean",
    return_stats: bool = False,
    process_group: ProcessGroup | None = None,
    schedule: Schedule = "gather",
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    weights: Tensor | None = None,
    directions: Collection[Direction] | Mapping[Direction, float] = DIRECTIONS,
    extra_text_features: Tensor | None = None,
    ids: Tensor | None = None,
    image_ids: Tensor | None = None,
    text_ids: Tensor | None = None,
    positives: Positives = "pairs",
) -> Tensor | tuple[Tensor, ClipStats]:
    """Return the symmetric cross-entropy between image-text similarities and the identity matching.

        logits_ij = logit_scale * <image_i, text_j>
        loss_i    = -(log softmax_j(logits_i.)_i + log softmax_j(logits_.i)_i) / 2

    No backend but `reference` holds a (B, B) tensor unless `workspace` allows one: extra memory is
    O(B). Cost: 8 B^2 D FLOPs forward and backward, 6 B^2 D where the workspace holds the logits.
    Losses keep their relative accuracy down to 1e-30, so that a model that fits its data still gets
    a gradient.

    Args:
        image_features: (B, D), float32, bfloat16, float16 or float64, any strides; unit rows
            unless `normalize`.
        text_features: (B, D), same dtype and device. Under autocast the dtypes may differ.
        logit_scale: the multiplicative scale (> 0), not its logarithm: a number (of Python or
            numpy), or a tensor of one element on the features' device.
        normalize: divide rows by max(norm, 1e-12) first, as `F.normalize` does.
        backend: "auto", "cpu", "triton", "cuda", "chunked" or "reference". A named backend
            either runs or raises.
        workspace: bytes of memory that the backend may use to save time (see docs/backends.md);
            None is the backend's own bounded default.
        reduction: "mean" or "none".
        return_stats: also return `ClipStats`. On `triton` and `cuda` its maxima take a matrix
            product of their own, 2 B^2 D FLOPs; on other backends they cost nothing.
        process_group: None computes the loss of this process alone. With a group, the N pairs of
            all its W ranks are one batch, and every rank returns the same bits; ranks may have
            different B. A rank's gradients are W times its share of the loss's gradients, so that
            the mean over the ranks that DDP takes is exact, for logit_scale and logit_bias too
            (`fastclip.distributed`).
        schedule: "gather" holds the texts of all ranks at once, in O(N D) memory; "ring" holds the
            texts of one rank after the other, in O(B D), and keeps no logits whatever the
            workspace.
        label_smoothing: eps in [0, 1): each row and column of logits has the loss that
            F.cross_entropy(label_smoothing=eps) gives it; this costs O(B D) more.
        margin: m is subtracted from the inner product of each pair (its cosine, for unit rows)
            before the loss: the pair's logit becomes logit_scale * (<image_i, text_i> - m).
        weights: (B,) at least 0, of any real dtype, on the features' device: loss_i becomes
            weights_i * loss_i, and the mean is the sum of these divided by B. Weights may have a
            gradient. On a GPU, checking the weights would wait for the device: there, a weight that
            is negative or not finite makes the loss nan instead of raising an error.
        directions: which losses count: "image_to_text", "text_to_image" or both, with equal weights
            that add up to 1; or a mapping from these names to weights, such as
            {"image_to_text": 0.7, "text_to_image": 0.3}. A weight of 0 leaves a direction out.
        extra_text_features: (H, D), texts without an image, such as hard negatives. They are
            further columns for all images, which then have B + H logits; texts still have B. Where
            each pair has H texts, (B, H, D), `.flatten(0, 1)` makes them one pool, as in NegCLIP:
            every image sees them all. Extra texts have gradients like other features, have no ids,
            and are always negatives. Over a group, every rank must give at least one, the images of
            all ranks see them all, and the schedule must be "gather".
        ids: (B,) int64, any values, on the features' device or on the CPU. Pairs with the same id
            are the same, because a caption or an image occurs twice in the batch: image i and text
            j with one id are not negatives of each other. Their logit is left out, exactly, as if
            it were -inf. The time is the same as without ids; memory for a copy of both features,
            O(B D), is needed because pairs are put in the order of ids. Ids on the CPU that are in
            order already need no copy. A CUDA graph can capture only ids on the GPU.
        image_ids, text_ids: both of them instead of `ids`: image i and text j are the same where
            image_ids[i] == text_ids[j]. Image i and text i are a pair whatever their ids.
        positives: "pairs", or "ids": images and texts with the same id are not left out but are
            positives. The loss of an image is then -log softmax, averaged over its positives, with
            all texts in the sum (UniCL), and likewise for a text. "ids" excludes a margin, and over
            a group it needs the schedule "gather".

    Returns:
        The loss, a float32 tensor (float64 for float64 features) of shape (), or (B,) for "none";
        with `return_stats`, a pair of the loss and `ClipStats`.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: shapes, dtypes or devices disagree, an input is empty or not dense,
            `logit_scale` has more than one element or is a number that is not finite and positive,
            an option is out of its range, a name is unknown, the reduction over a group is not
            "mean", or the ranks of a group disagree.
        RuntimeError: the named backend cannot take these inputs; a derivative is requested that is
            not of first order in reverse mode (torch.func.jvp, jacfwd and hessian raise; grad, vjp,
            jacrev and vmap work); or other ranks of a group do not call the loss or its backward
            within the group's timeout.

    Example:
        >>> features = torch.eye(4)
        >>> round(float(fastclip.clip_loss(features, features, 10.0)), 6)
        0.000136
        >>> loss, stats = fastclip.clip_loss(features, features, 10.0, return_stats=True)
        >>> float(stats.image_to_text_accuracy)
        1.0

    Source:
        Radford et al. 2021, arXiv:2103.00020, Figure 3. Smoothing: Szegedy et al. 2016,
        arXiv:1512.00567. Margin: Wang et al. 2018 (CosFace), arXiv:1801.09414. Extra texts:
        Yuksekgonul et al. 2023 (NegCLIP), arXiv:2210.01936.
    """
    options = options_of_numbers(label_smoothing, margin, directions)
    image_features, text_features, extra_text_features = _of_one_dtype(
        image_features, text_features, extra_text_features
    )
    validation.check_features(image_features, text_features)
    same = pair_ids(image_features, ids, image_ids, text_ids, positives)
    options = options_of_batch(options, image_features, weights, extra_text_features, same)
    device = image_features.device
    logit_scale = validation.scalar("logit_scale", logit_scale, device)
    validation.check_options(logit_scale, reduction, workspace)
    scale = validation.scalar_tensor("logit_scale", logit_scale, image_features)
    rectangle = Rectangle(image_features, text_features, scale, MAIN_DIAGONAL, normalize=normalize)
    group = _group(process_group, schedule, reduction)
    if group is not None:
        # Imported here, because this imports the compiler too, which takes 0.9 s.
        from fastclip.distributed.clip_loss import clip_loss_over_ranks

        loss, stats = clip_loss_over_ranks(
            rectangle, logit_scale, group, schedule, backend, workspace, return_stats, options
        )
        return (loss, stats) if return_stats else loss
    # Statistics need the largest negatives: the shifts must then be these.
    mean, needs_maximum = reduction == "mean", return_stats
    if options.are_default:
        call = dispatch.plan("contrastive_lse", backend, rectangle, workspace)
        found = cross_entropy(rectangle, call, mean, needs_maximum)
    else:
        found = cross_entropy_with(rectangle, options, backend, workspace, mean, needs_maximum)
    loss, positive, maximum = found
    if not return_stats:
        return loss
    image_to_text_accuracy, text_to_image_accuracy = (positive > maximum).to(loss.dtype).mean(1)
    return loss, ClipStats(
        image_to_text_accuracy,
        text_to_image_accuracy,
        mean_positive=positive.mean(),
        hardest_negative=maximum.max(),
        same_pairs=positive.new_zeros((), dtype=torch.int64) if same is None else same_pairs(same),
    )


def siglip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor = 0.0,
    *,
    normalize: bool = False,
    backend: Backend = "auto",
    workspace: int | None = None,
    reduction: Reduction = "mean",
    process_group: ProcessGroup | None = None,
    schedule: Schedule = "gather",
    ids: Tensor | None = None,
    image_ids: Tensor | None = None,
    text_ids: Tensor | None = None,
    positives: Positives = "pairs",
) -> Tensor:
    """Return the sigmoid loss: each image with each text is a binary classification, match or not.

        logits_ij = logit_scale * <image_i, text_j> + logit_bias
        loss_i    = sum_j softplus(-y_ij logits_ij),   y_ij = 1 if i = j else -1

    Memory and cost are as in `clip_loss`; on `cpu`, `triton` and `cuda` the mean takes one pass and
    6 B^2 D FLOPs.

    Args:
        image_features, text_features, logit_scale, normalize: see `clip_loss`.
        backend, workspace, process_group, schedule: see `clip_loss`.
        logit_bias: a number (of Python or numpy), or a tensor of one element on the features'
            device.
        reduction: "mean" (the sum over all B^2 combinations of an image and a text, divided by B,
            as in open_clip) or "none".
        ids, image_ids, text_ids: which images and texts are the same, as in `clip_loss`: image i
            and text j with one id and i != j are left out of the sum.
        positives: "pairs", or "ids": images and texts with the same id match. Where k_i texts match
            image i and k'_j images match text j, the match (i, j) has the weight
            (1 / k_i + 1 / k'_j) / 2, so that an image or text with many matches counts no more
            than others; non-matches have the weight 1. "ids" waits for a GPU once, or once for each
            rank of a group, and a group must have the schedule "gather".

    Returns:
        The loss, a float32 tensor (float64 for float64 features) of shape (), or (B,) for "none".

    Raises:
        TypeError, ValueError, RuntimeError: as in `clip_loss`.

    Example:
        >>> features = torch.eye(4)
        >>> round(float(fastclip.siglip_loss(features, features, 10.0, -5.0)), 4)
        0.0269

    Source:
        Zhai et al. 2023, arXiv:2303.15343, Algorithm 1.
    """
    image_features, text_features = _of_one_dtype(image_features, text_features)
    validation.check_features(image_features, text_features)
    device = image_features.device
    logit_scale = validation.scalar("logit_scale", logit_scale, device)
    logit_bias = validation.scalar("logit_bias", logit_bias, device)
    validation.check_options(logit_scale, reduction, workspace)
    scale = validation.scalar_tensor("logit_scale", logit_scale, image_features)
    bias = validation.scalar_tensor("logit_bias", logit_bias, image_features)
    same = pair_ids(image_features, ids, image_ids, text_ids, positives)
    rectangle = Rectangle(image_features, text_features, scale, MAIN_DIAGONAL, normalize=normalize)
    group = _group(process_group, schedule, reduction)
    if group is not None:
        # Imported here, because this imports the compiler too, which takes 0.9 s.
        from fastclip.distributed.siglip_loss import siglip_loss_over_ranks

        given = logit_scale, logit_bias
        return siglip_loss_over_ranks(
            rectangle, bias, given, group, schedule, backend, workspace, same
        )
    mean = reduction == "mean"
    if same is not None:
        return sigmoid_loss_with_ids(rectangle, bias, same, backend, workspace, mean)
    if mean:
        call = dispatch.plan("siglip_total", backend, rectangle, workspace, bias)
        return total_sigmoid_loss(rectangle, bias, call) / len(image_features)
    call = dispatch.plan("siglip_sum", backend, rectangle, workspace, bias)
    row_loss, _ = siglip_sum(rectangle, bias, call)
    return row_loss


def _group(
    process_group: ProcessGroup | None, schedule: str, reduction: str
) -> ProcessGroup | None:
    groups.check_schedule(schedule)
    group = groups.several_processes(process_group)
    if group is not None and reduction != "mean":
        raise ValueError(f"reduction must be 'mean' with a process_group, got {reduction!r}")
    return group


def _of_one_dtype(first: Tensor, *others: Tensor | None) -> tuple[Tensor | None, ...]:
    # Under autocast one tower may end in float32 and the other in 16 bits; eager matmul takes both.
    given = [x for x in (first, *others) if x is not None]
    dtypes = [getattr(x, "dtype", None) for x in given]
    if dtypes == dtypes[:1] * len(dtypes) or not all(isinstance(x, Tensor) for x in given):
        return first, *others
    if not torch.is_autocast_enabled(first.device.type):
        return first, *others
    dtype = functools.reduce(torch.promote_types, dtypes)
    return tuple(None if x is None else x.to(dtype) for x in (first, *others))
