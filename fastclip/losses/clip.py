"""ClipLoss: `fastclip.clip_loss` with the signatures of open_clip 3.3.0's class of that name."""

from torch import Tensor, nn

from fastclip.functional import clip_loss
from fastclip.losses.single_process import require_single_process


class ClipLoss(nn.Module):
    """Drop-in for `open_clip.ClipLoss`: same values and gradients, O(B) extra memory.

    Args:
        local_loss, gather_with_grad: accepted for compatibility; in one process they change
            nothing, here and in open_clip.
        cache_labels: accepted; there are no labels to cache.
        rank, world_size: of the process. Several ranks raise until distribution is implemented.
        use_horovod: must be False.
        backend, workspace: see `fastclip.clip_loss`.

    Raises:
        ValueError: `world_size` < 1 or `rank` outside it.
        NotImplementedError: `world_size` > 1 or `use_horovod`.
    """

    def __init__(
        self,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        use_horovod: bool = False,
        *,
        backend: str = "auto",
        workspace: int | None = None,
    ) -> None:
        super().__init__()
        require_single_process(rank, world_size, use_horovod)
        self.local_loss = local_loss
        self.gather_with_grad = gather_with_grad
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.use_horovod = use_horovod
        self.backend = backend
        self.workspace = workspace

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
            image_features: (B, D), unit rows.
            text_features: (B, D), same dtype and device, unit rows.
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
        )
        if isinstance(logit_bias, Tensor):
            # A bias parameter must take part in the graph: DDP waits for its gradient.
            loss = loss + 0.0 * logit_bias.reshape(())
        return {"contrastive_loss": loss} if output_dict else loss

    def extra_repr(self) -> str:
        return f"backend={self.backend!r}, workspace={self.workspace}"
