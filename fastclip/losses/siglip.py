"""SigLipLoss: `fastclip.siglip_loss` with the signatures of open_clip 3.3.0's class."""

from torch import Tensor, nn
from torch.distributed import ProcessGroup

from fastclip.distributed.groups import check_membership, check_schedule, find_group
from fastclip.functional import siglip_loss

# open_clip's ways to communicate, and the schedule that is closest.
DIST_IMPLS = {"bidir": "ring", "shift": "ring", "reduce": "gather", "gather": "gather"}


class SigLipLoss(nn.Module):
    """Drop-in for `open_clip.SigLipLoss`: same values and gradients, without the logits in memory.

    Over several ranks the loss is the sum over all pairs of all ranks' batches divided by N, and
    after DDP's mean the gradients of encoders, logit_scale and logit_bias are exact
    (`fastclip.distributed`).

    Args:
        cache_labels: accepted; there are no labels to cache.
        rank, world_size: of the process; see `ClipLoss`.
        dist_impl: None, "bidir", "shift", "reduce" or "gather". Without a `schedule` the first two
            mean "ring" and the others "gather"; values and gradients are the same for all.
        chunk_size: accepted (open_clip's later versions have it); memory is bounded by
            `workspace` here.
        backend, workspace: see `fastclip.clip_loss`.
        process_group: the ranks that share a loss; None is torch.distributed's default group.
        schedule: "gather" or "ring", see `fastclip.clip_loss`; None goes by `dist_impl`, and is
            "gather" without one.

    Raises:
        TypeError, ValueError: as `ClipLoss`, or `dist_impl` is unknown.
    """

    def __init__(
        self,
        cache_labels: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        dist_impl: str | None = None,
        chunk_size: int = 0,
        *,
        backend: str = "auto",
        workspace: int | None = None,
        process_group: ProcessGroup | None = None,
        schedule: str | None = None,
    ) -> None:
        super().__init__()
        if dist_impl is not None and dist_impl not in DIST_IMPLS:
            choices = tuple(DIST_IMPLS)
            raise ValueError(f"dist_impl must be None or one of {choices}, got {dist_impl!r}")
        if schedule is None:
            schedule = DIST_IMPLS.get(dist_impl, "gather")
        check_schedule(schedule)
        check_membership(rank, world_size, process_group)
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.dist_impl = dist_impl
        self.chunk_size = chunk_size
        self.backend = backend
        self.workspace = workspace
        self.process_group = process_group
        self.schedule = schedule

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        logit_bias: float | Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """Return the loss, () float32, or {"contrastive_loss": loss} if `output_dict`.

        Args:
            image_features: (B, D), unit rows; of this rank.
            text_features: (B, D), same dtype and device, unit rows; of this rank.
            logit_scale: float or one-element tensor, already exponentiated.
            logit_bias: float or one-element tensor; None is 0.
        """
        loss = siglip_loss(
            image_features,
            text_features,
            logit_scale,
            0.0 if logit_bias is None else logit_bias,
            backend=self.backend,
            workspace=self.workspace,
            process_group=find_group(self.rank, self.world_size, self.process_group),
            schedule=self.schedule,
        )
        return {"contrastive_loss": loss} if output_dict else loss

    def extra_repr(self) -> str:
        return f"backend={self.backend!r}, workspace={self.workspace}, schedule={self.schedule!r}"
