"""ClipLoss: `fastclip.clip_loss` with the signatures of open_clip 3.3.0's class of that name."""

from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.functional import clip_loss
from fastclip.losses.contrastive_loss import ContrastiveLoss


class ClipLoss(ContrastiveLoss):
    """Drop-in for `open_clip.ClipLoss`: same values and gradients, without the logits in memory.

    Over several ranks the loss is that of all their pairs, and after DDP's mean the gradients of
    encoders, logit_scale and logit_bias are exact (`fastclip.distributed`). A softmax does not see
    a constant: the value does not depend on `logit_bias`, and its gradient is exactly zero.

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
        if use_horovod:
            raise NotImplementedError("use_horovod=True is not supported; use torch.distributed")
        super().__init__(rank, world_size, backend, workspace, process_group, schedule)
        self.local_loss = local_loss
        self.gather_with_grad = gather_with_grad
        self.cache_labels = cache_labels
        self.use_horovod = use_horovod

    def loss_of(self, image_features, text_features, logit_scale, logit_bias, **settings) -> Tensor:
        loss = clip_loss(image_features, text_features, logit_scale, **settings)
        if isinstance(logit_bias, Tensor):
            # A bias parameter must take part in the graph: DDP waits for its gradient.
            loss = loss + 0.0 * logit_bias.reshape(())
        return loss
