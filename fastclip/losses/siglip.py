"""SigLipLoss: `fastclip.siglip_loss` with the signatures of open_clip 3.3.0's class."""

from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.functional import siglip_loss
from fastclip.literals import Backend, Positives, Schedule
from fastclip.losses.contrastive_loss import ContrastiveLoss
from fastclip.ops.pair_ids import checked_positives

if TYPE_CHECKING:
    from typing_extensions import Unpack

    class OfBatch(TypedDict, total=False):
        """The keyword arguments of a call of `SigLipLoss` that belong to the batch."""

        ids: Tensor | None
        image_ids: Tensor | None
        text_ids: Tensor | None


# Maps open_clip's ways to communicate to the closest schedule.
DIST_IMPLS = {"bidir": "ring", "shift": "ring", "reduce": "gather", "gather": "gather"}


class SigLipLoss(ContrastiveLoss):
    """Drop-in for `open_clip.SigLipLoss`: same values and gradients, without the logits in memory.

    Over several ranks the loss is the sum over all pairs of all ranks' batches divided by N, and
    after DDP's mean the gradients of encoders, logit_scale and logit_bias are exact
    (`fastclip.distributed`). `logit_bias` is added to every logit; None is 0.

    Args:
        cache_labels: accepted; there are no labels to cache.
        rank, world_size: see `ClipLoss`.
        dist_impl: None, "bidir", "shift", "reduce" or "gather". Without a `schedule` the first two
            mean "ring" and the others "gather"; values and gradients are the same for all.
        chunk_size: accepted (open_clip's later versions have it); memory is bounded by
            `workspace` here.
        backend, workspace: see `fastclip.clip_loss`.
        process_group: the ranks that share a loss; None is torch.distributed's default group.
        schedule: "gather" or "ring", see `fastclip.clip_loss`; None follows `dist_impl`, and
            is "gather" without it.
        positives: see `fastclip.siglip_loss`. Ids belong to a batch, and are given at the call.

    Raises:
        TypeError, ValueError: as `ClipLoss`, or `dist_impl` is unknown.

    Example:
        >>> loss = fastclip.SigLipLoss()
        >>> round(float(loss(torch.eye(4), torch.eye(4), logit_scale=10.0, logit_bias=-5.0)), 4)
        0.0269
    """

    positives = "pairs"  # the default of modules that were pickled before ids existed

    def __init__(
        self,
        cache_labels: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        dist_impl: str | None = None,
        chunk_size: int = 0,
        *,
        backend: Backend = "auto",
        workspace: int | None = None,
        process_group: ProcessGroup | None = None,
        schedule: Schedule | None = None,
        positives: Positives = "pairs",
    ) -> None:
        if dist_impl is not None and dist_impl not in DIST_IMPLS:
            choices = tuple(DIST_IMPLS)
            raise ValueError(f"dist_impl must be None or one of {choices}, got {dist_impl!r}")
        if schedule is None:
            schedule = DIST_IMPLS.get(dist_impl, "gather")
        super().__init__(rank, world_size, backend, workspace, process_group, schedule)
        self.cache_labels = cache_labels
        self.dist_impl = dist_impl
        self.chunk_size = chunk_size
        self.positives = checked_positives(positives)

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        logit_bias: float | Tensor | None = None,
        output_dict: bool = False,
        *,
        ids: Tensor | None = None,
        image_ids: Tensor | None = None,
        text_ids: Tensor | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """Return the loss, () float32, or {"contrastive_loss": loss} if `output_dict`.

        Args:
            image_features, text_features, logit_scale, logit_bias: see `ContrastiveLoss.forward`.
            ids, image_ids, text_ids: (B,) int64, of this rank's pairs; see `fastclip.siglip_loss`.
        """
        of_batch = {"ids": ids, "image_ids": image_ids, "text_ids": text_ids}
        return super().forward(
            image_features, text_features, logit_scale, logit_bias, output_dict, **of_batch
        )

    if TYPE_CHECKING:

        @overload
        def __call__(
            self,
            image_features: Tensor,
            text_features: Tensor,
            logit_scale: float | Tensor,
            logit_bias: float | Tensor | None = None,
            output_dict: Literal[False] = False,
            **of_batch: Unpack[OfBatch],
        ) -> Tensor: ...

        @overload
        def __call__(
            self,
            image_features: Tensor,
            text_features: Tensor,
            logit_scale: float | Tensor,
            logit_bias: float | Tensor | None = None,
            *,
            output_dict: Literal[True],
            **of_batch: Unpack[OfBatch],
        ) -> dict[str, Tensor]: ...

        @overload
        def __call__(
            self,
            image_features: Tensor,
            text_features: Tensor,
            logit_scale: float | Tensor,
            logit_bias: float | Tensor | None = None,
            output_dict: bool = False,
            **of_batch: Unpack[OfBatch],
        ) -> Tensor | dict[str, Tensor]: ...

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def loss_of(self, image_features, text_features, logit_scale, logit_bias, **settings) -> Tensor:
        bias = 0.0 if logit_bias is None else logit_bias
        return siglip_loss(
            image_features, text_features, logit_scale, bias, positives=self.positives, **settings
        )
