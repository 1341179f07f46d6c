"""The CLIP loss of several prefixes of the features, for embeddings that may be cut short."""

from collections.abc import Collection, Iterable, Mapping

from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed import groups
from fastclip.functional import clip_loss
from fastclip.losses.contrastive_loss import ContrastiveLoss
from fastclip.losses.family.inputs import checked_features
from fastclip.losses.family.one_pass import losses_in_one_pass
from fastclip.losses.family.prefixes import check_same_on_ranks, checked_dims, checked_weights
from fastclip.ops import validation
from fastclip.ops.clip_options import DIRECTIONS, options_of_numbers
from fastclip.ops.pair_ids import checked_positives


def matryoshka_clip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    dims: Iterable[int],
    weights: Iterable[float] | None = None,
    *,
    backend: str = "auto",
    workspace: int | None = None,
    return_dims: bool = False,
    process_group: ProcessGroup | None = None,
    schedule: str = "gather",
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    directions: Collection[str] | Mapping[str, float] = DIRECTIONS,
    extra_text_features: Tensor | None = None,
    ids: Tensor | None = None,
    image_ids: Tensor | None = None,
    text_ids: Tensor | None = None,
    positives: str = "pairs",
) -> Tensor | tuple[Tensor, dict[int, Tensor]]:
    """Return the weighted sum of the CLIP losses of several prefixes of the features.

        loss = sum over k of weights_k * clip_loss(image[:, :dims_k], text[:, :dims_k], normalize)

    Each prefix is normalised by itself, so that an encoder trained with the loss has embeddings
    that may be cut to any of `dims`, and then normalised. No scores are held: extra memory is
    O(B D). Features beyond the largest dim have no gradient.

    The time is the sum of the times of `clip_loss` at each dim. Without options and without a
    group, the backend `cpu` computes all dims in one pass where that is faster: it computes only
    the products of the largest dim, and the results are equal up to rounding.

    Args:
        image_features: (B, D), float32, bfloat16, float16 or float64, any strides; raw or unit
            rows.
        text_features: (B, D), same dtype and device. Under autocast the dtypes may differ.
        logit_scale: number or one-element tensor, > 0, for all prefixes; see `fastclip.clip_loss`.
        dims: lengths of the prefixes, from 1 to D, all different, in any order.
        weights: numbers > 0, one for each of `dims`; None is 1 for each.
        backend, label_smoothing, margin, directions: see `fastclip.clip_loss`.
        workspace: see `fastclip.clip_loss`; for the loss at each dim or, in one pass, for all.
        return_dims: also return the loss at each dim.
        process_group, schedule: see `fastclip.clip_loss`. All ranks must have the same `dims` and
            `weights`.
        extra_text_features: (H, D), see `fastclip.clip_loss`; cut like the others.
        ids, image_ids, text_ids, positives: see `fastclip.clip_loss`.

    Returns:
        float32 tensor (float64 for float64 features) of shape (); with `return_dims` a pair of this
        loss and a dict that maps each dim, in the order of `dims`, to its unweighted loss ().

    Raises:
        TypeError, ValueError: as `fastclip.clip_loss`; `dims` is empty, or a dim is repeated, below
            1 or above D; there are not as many `weights` as `dims`, or one is not finite and > 0;
            or the ranks of a group disagree on `dims` or `weights`.
        RuntimeError: as `fastclip.clip_loss`.

    Source:
        Kusupati et al. 2022, arXiv:2205.13147, Equation 1.

    Example:
        >>> loss, of_dims = fastclip.matryoshka_clip_loss(
        ...     images, texts, model.logit_scale.exp(), dims=(512, 256, 64), return_dims=True)
    """
    dims = checked_dims(dims)
    weights = checked_weights(weights, dims)
    image_features, text_features, extra_text_features = checked_features(
        {"image_features": image_features, "text_features": text_features},
        extra_text_features=extra_text_features,
    )
    D = image_features.shape[1]
    if max(dims) > D:
        raise ValueError(f"dims must be at most D, {D} of these features, got {max(dims)}")
    group = groups.several_processes(process_group)
    if group is not None:
        scale = validation.scalar("logit_scale", logit_scale, image_features.device)
        check_same_on_ranks(
            dims, weights, (image_features, text_features), scale, backend, workspace, process_group
        )
    of_dims = None
    given = extra_text_features, ids, image_ids, text_ids
    if group is None and all(x is None for x in given) and positives == "pairs":
        groups.check_schedule(schedule)
        if options_of_numbers(label_smoothing, margin, directions).are_default:
            of_dims = losses_in_one_pass(
                image_features, text_features, logit_scale, dims, backend, workspace
            )
    if of_dims is None:
        of_dims = {
            dim: clip_loss(
                _prefix(image_features, dim), _prefix(text_features, dim), logit_scale,
                normalize=True, backend=backend, workspace=workspace,
                process_group=process_group, schedule=schedule,
                label_smoothing=label_smoothing, margin=margin, directions=directions,
                extra_text_features=_prefix(extra_text_features, dim),
                ids=ids, image_ids=image_ids, text_ids=text_ids, positives=positives,
            )
            for dim in dims
        }  # fmt: skip
    loss = sum(weight * of_dims[dim] for dim, weight in zip(dims, weights, strict=True))
    return (loss, of_dims) if return_dims else loss


class MatryoshkaClipLoss(ContrastiveLoss):
    """`fastclip.matryoshka_clip_loss` with the call of `fastclip.ClipLoss`.

    Over several ranks the loss is over all their pairs, as with `ClipLoss`.

    Args:
        dims: lengths of the prefixes of the features, all different, in any order.
        weights: numbers > 0, one for each of `dims`; None is 1 for each.
        rank, world_size, backend, workspace, process_group, schedule: see `fastclip.ClipLoss`.
        label_smoothing, margin, directions, positives: see `fastclip.ClipLoss`.

    Raises:
        TypeError, ValueError: as `ClipLoss` and `matryoshka_clip_loss`.

    Example:
        >>> loss = fastclip.MatryoshkaClipLoss((512, 256, 64))
        >>> loss(images, texts, logit_scale, output_dict=True).keys()
        dict_keys(['contrastive_512_loss', 'contrastive_256_loss', 'contrastive_64_loss'])
    """

    positives = "pairs"  # the default of modules that were pickled before ids existed

    def __init__(
        self,
        dims: Iterable[int],
        weights: Iterable[float] | None = None,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        backend: str = "auto",
        workspace: int | None = None,
        process_group: ProcessGroup | None = None,
        schedule: str = "gather",
        label_smoothing: float = 0.0,
        margin: float = 0.0,
        directions: Collection[str] | Mapping[str, float] = DIRECTIONS,
        positives: str = "pairs",
    ) -> None:
        options = options_of_numbers(label_smoothing, margin, directions)
        super().__init__(rank, world_size, backend, workspace, process_group, schedule)
        self.dims = checked_dims(dims)
        self.weights = checked_weights(weights, self.dims)
        self.label_smoothing = options.label_smoothing
        self.margin = options.margin
        self.directions = directions
        self.positives = checked_positives(positives)

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        logit_bias: float | Tensor | None = None,
        output_dict: bool = False,
        *,
        extra_text_features: Tensor | None = None,
        ids: Tensor | None = None,
        image_ids: Tensor | None = None,
        text_ids: Tensor | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """Return the loss, () float32, or its terms if `output_dict`.

        The terms are {"contrastive_<dim>_loss": weight * loss at that dim}. A trainer that adds up
        what a loss returns, as open_clip's does, gets the loss, and logs each dim.

        Args:
            image_features, text_features: (B, D), raw or unit rows; of this rank.
            logit_scale, logit_bias: see `ClipLoss.forward`.
            extra_text_features: (H, D), of this rank; see `fastclip.clip_loss`.
            ids, image_ids, text_ids: (B,) int64, of this rank's pairs; see `fastclip.clip_loss`.
        """
        terms = super().forward(
            image_features, text_features, logit_scale, logit_bias,
            extra_text_features=extra_text_features,
            ids=ids, image_ids=image_ids, text_ids=text_ids,
        )  # fmt: skip
        return terms if output_dict else sum(terms.values())

    def loss_of(
        self, image_features, text_features, logit_scale, logit_bias, **settings
    ) -> dict[str, Tensor]:
        """Return the terms of the loss of this rank's features, by name."""
        _, of_dims = matryoshka_clip_loss(
            image_features, text_features, logit_scale, self.dims, self.weights, return_dims=True,
            label_smoothing=self.label_smoothing, margin=self.margin, directions=self.directions,
            positives=self.positives, **settings,
        )  # fmt: skip
        terms = {
            f"contrastive_{dim}_loss": weight * of_dims[dim]
            for dim, weight in zip(self.dims, self.weights, strict=True)
        }
        if isinstance(logit_bias, Tensor):
            # A bias parameter must take part in the graph: DDP waits for its gradient.
            first = next(iter(terms))
            terms[first] = terms[first] + 0.0 * logit_bias.reshape(())
        return terms

    def extra_repr(self) -> str:
        given = {"dims": self.dims, "weights": self.weights}
        further = {"label_smoothing": self.label_smoothing, "margin": self.margin}
        given |= {name: value for name, value in further.items() if value}
        if self.directions != DIRECTIONS:
            given["directions"] = self.directions
        if self.positives != "pairs":
            given["positives"] = self.positives
        return ", ".join([*(f"{k}={v!r}" for k, v in given.items()), super().extra_repr()])


def _prefix(features: Tensor | None, dim: int) -> Tensor | None:
    return None if features is None else features[:, :dim].contiguous()
