"""ClipLoss: `fastclip.clip_loss` with the signatures of open_clip 3.3.0's class of that name."""

from torch import Tensor, nn
from torch.distributed import ProcessGroup

from fastclip.distributed.groups import check_membership, check_schedule, find_group
from fastclip.functional import clip_loss


class ClipLoss(nn.Module):
    """Drop-in for `open_clip.ClipLoss`: same values and gradients, without the logits in memory.

    Over several ranks the loss is that of all their pairs, and after DDP's mean the gradients of
    encoders, logit_scale and logit_bias are exact (`fastclip.distributed`).

    Args:
        local_loss, gather_with_grad: accepted, and of no effect: there is one right gradient. It is
            what open_clip gives with both; its other combinations give another for features.
        cache_labels: accepted; there are no labels to cache.
        rank, world_size: of the process. None finds them by itself: those of torch.distributed, if
            it is initialised. `world_size=1` is this process alone. Otherwise they are checked, at
            the first call if torch.distributed is not initialised yet.
        use_horovod: must be False.
        backend, workspace: see `fastclip.clip_loss`.
        process_group: the ranks that share a loss; None is torch.distributed's default group.
        schedule: "gather" or "ring", see `fastclip.clip_loss`.

    Raises:
        TypeError: `process_group` is not a ProcessGroup.
        ValueError: `rank` and `world_size` are not those of the group, or torch.distributed is not
            initialised and `world_size` > 1; this process is not in the group; unknown `schedule`.
        NotImplementedError: `use_horovod`.
    """

    def __init__(
        self,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        use_horovod: bool = False,
        *,
        backend: str = "auto",
        workspace: int | None = None,
        process_group: ProcessGroup | None = None,
        schedule: str = "gather",
    ) -> None:
        super().__init__()
        if use_horovod:
            raise NotImplementedError("use_horovod=True is not supported; use torch.distributed")
        check_schedule(schedule)
        check_membership(rank, world_size, process_group)
        self.local_loss = local_loss
        self.gather_with_grad = gather_with_grad
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.use_horovod = use_horovod
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
            logit_bias: float or one-element tensor. A softmax does not see a constant: the value
                does not change and its gradient is exactly zero.
        """
        loss = clip_loss(
            image_features,
            text_features,
            logit_scale,
            backend=self.backend,
            workspace=self.workspace,
            process_group=find_group(self.rank, self.world_size, self.process_group),
            schedule=self.schedule,
        )
        if isinstance(logit_bias, Tensor):
            # A bias parameter must take part in the graph: DDP waits for its gradient.
            loss = loss + 0.0 * logit_bias.reshape(())
        return {"contrastive_loss": loss} if output_dict else loss

    def extra_repr(self) -> str:
        return f"backend={self.backend!r}, workspace={self.workspace}, schedule={self.schedule!r}"
