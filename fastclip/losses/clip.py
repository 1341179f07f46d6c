"""ClipLoss: `fastclip.clip_loss` with the signatures of open_clip 3.3.0's class of that name."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.functional import clip_loss
from fastclip.literals import Backend, Direction, Positives, Schedule
from fastclip.losses.contrastive_loss import ContrastiveLoss
from fastclip.ops.clip_options import DIRECTIONS, options_of_numbers
from fastclip.ops.clip_stats import ClipStats
from fastclip.ops.pair_ids import checked_positives

if TYPE_CHECKING:
    from typing_extensions import Unpack

    class OfBatch(TypedDict, total=False):
        """The keyword arguments of a call of `ClipLoss` that belong to the batch."""

        weights: Tensor | None
        extra_text_features: Tensor | None
        ids: Tensor | None
        image_ids: Tensor | None
        text_ids: Tensor | None


class ClipLoss(ContrastiveLoss):
    """Drop-in for `open_clip.ClipLoss`: same values and gradients, without the logits in memory.

    Over several ranks the loss is over all their pairs, and after DDP's mean the gradients of
    encoders, logit_scale and logit_bias are exact (`fastclip.distributed`). A softmax ignores a
    constant: the value does not depend on `logit_bias`, whose gradient is exactly zero.

    Args:
        local_loss, gather_with_grad: accepted without effect: the gradient is always the exact one,
            which open_clip computes if both are True. Its other combinations give features another.
        cache_labels: accepted; there are no labels to cache.
        rank, world_size: the rank of this process, and the number of ranks. None asks
            torch.distributed, if it is initialised. `world_size=1` computes the loss of this
            process alone. Other values are checked, at the first call if torch.distributed is not
            initialised yet.
        use_horovod: must be False.
        backend, workspace: see `fastclip.clip_loss`.
        process_group: the ranks that share a loss; None is torch.distributed's default group.
        schedule: "gather" or "ring", see `fastclip.clip_loss`.
        label_smoothing, margin, directions, positives: see `fastclip.clip_loss`. What belongs to a
            batch (`weights`, `extra_text_features` and ids) is given at the call.

    Raises:
        TypeError: `process_group` is not a ProcessGroup, or an option is of the wrong kind.
        ValueError: an option is out of its range; `rank` and `world_size` are not the
            group's, or torch.distributed is not initialised and `world_size` > 1; this process is
            not in the group; `schedule` is unknown.
        NotImplementedError: `use_horovod` is True.

    Example:
        >>> loss = fastclip.ClipLoss()
        >>> loss(images, texts, logit_scale, ids=ids_of_captions)
        >>> value, stats = loss(images, texts, logit_scale, return_stats=True)
        >>> loss = fastclip.ClipLoss(label_smoothing=0.1, directions=("image_to_text",))
        >>> loss(images, texts, logit_scale, extra_text_features=hard_negatives.flatten(0, 1))
    """

    positives = "pairs"  # the default of modules that were pickled before ids existed

    def __init__(
        self,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        use_horovod: bool = False,
        *,
        backend: Backend = "auto",
        workspace: int | None = None,
        process_group: ProcessGroup | None = None,
        schedule: Schedule = "gather",
        label_smoothing: float = 0.0,
        margin: float = 0.0,
        directions: Collection[Direction] | Mapping[Direction, float] = DIRECTIONS,
        positives: Positives = "pairs",
    ) -> None:
        if use_horovod:
            raise NotImplementedError("use_horovod=True is not supported; use torch.distributed")
        options = options_of_numbers(label_smoothing, margin, directions)
        super().__init__(rank, world_size, backend, workspace, process_group, schedule)
        self.local_loss = local_loss
        self.gather_with_grad = gather_with_grad
        self.cache_labels = cache_labels
        self.use_horovod = use_horovod
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
        weights: Tensor | None = None,
        extra_text_features: Tensor | None = None,
        ids: Tensor | None = None,
        image_ids: Tensor | None = None,
        text_ids: Tensor | None = None,
        return_stats: bool = False,
    ) -> Tensor | dict[str, Tensor] | tuple[Tensor, ClipStats]:
        """Return the loss, () float32, or {"contrastive_loss": loss} if `output_dict`.

        Args:
            image_features, text_features, logit_scale, logit_bias: see `ContrastiveLoss.forward`.
            weights: (B,), of this rank's pairs; see `fastclip.clip_loss`.
            extra_text_features: (H, D), of this rank; see `fastclip.clip_loss`.
            ids, image_ids, text_ids: (B,) int64, of this rank's pairs; see `fastclip.clip_loss`.
            return_stats: return (loss, `ClipStats`) instead. It cannot be combined with
                `output_dict`, whose values trainers add up.

        Raises:
            ValueError: `return_stats` and `output_dict` are both True; or as `clip_loss`.
        """
        of_batch = {
            "weights": weights, "extra_text_features": extra_text_features,
            "ids": ids, "image_ids": image_ids, "text_ids": text_ids,
        }  # fmt: skip
        if return_stats:
            if output_dict:
                raise ValueError("return_stats and output_dict cannot both be True")
            of_batch["return_stats"] = True
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
            *,
            return_stats: Literal[False] = False,
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
            *,
            return_stats: Literal[True],
            **of_batch: Unpack[OfBatch],
        ) -> tuple[Tensor, ClipStats]: ...

        @overload
        def __call__(
            self,
            image_features: Tensor,
            text_features: Tensor,
            logit_scale: float | Tensor,
            logit_bias: float | Tensor | None = None,
            output_dict: bool = False,
            *,
            return_stats: bool = False,
            **of_batch: Unpack[OfBatch],
        ) -> Tensor | dict[str, Tensor] | tuple[Tensor, ClipStats]: ...

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def loss_of(
        self, image_features, text_features, logit_scale, logit_bias, **settings: Any
    ) -> Tensor | tuple[Tensor, ClipStats]:
        found = clip_loss(
            image_features, text_features, logit_scale, label_smoothing=self.label_smoothing,
            margin=self.margin, directions=self.directions, positives=self.positives, **settings,
        )  # fmt: skip
        if not isinstance(logit_bias, Tensor):
            return found
        # A bias parameter must take part in the graph: DDP waits for its gradient.
        nothing = 0.0 * logit_bias.reshape(())
        return (found[0] + nothing, found[1]) if isinstance(found, tuple) else found + nothing

    def extra_repr(self) -> str:
        further = {"label_smoothing": self.label_smoothing, "margin": self.margin}
        given = {name: value for name, value in further.items() if value}
        if self.directions != DIRECTIONS:
            given["directions"] = self.directions
        if self.positives != "pairs":
            given["positives"] = self.positives
        return ", ".join([super().extra_repr(), *(f"{k}={v!r}" for k, v in given.items())])
