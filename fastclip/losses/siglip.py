"""SigLipLoss: `fastclip.siglip_loss` with the signatures of open_clip 3.3.0's class."""

from torch import Tensor, nn

from fastclip.functional import siglip_loss
from fastclip.losses.single_process import require_single_process

DIST_IMPLS = ("bidir", "shift", "reduce", "gather")


class SigLipLoss(nn.Module):
    """Drop-in for `open_clip.SigLipLoss`: same values and gradients, O(B) extra memory.

    Args:
        cache_labels: accepted; there are no labels to cache.
        rank, world_size: of the process. Several ranks raise until distribution is implemented.
        dist_impl: None, "bidir", "shift", "reduce" or "gather"; of no effect in one process.
        chunk_size: accepted (open_clip's later versions have it); memory is bounded by
            `workspace` here.
        backend, workspace: see `fastclip.clip_loss`.

    Raises:
        ValueError: unknown `dist_impl`, `world_size` < 1 or `rank` outside it.
        NotImplementedError: `world_size` > 1.
    """

    def __init__(
        self,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        dist_impl: str | None = None,
        chunk_size: int = 0,
        *,
        backend: str = "auto",
        workspace: int | None = None,
    ) -> None:
        super().__init__()
        require_single_process(rank, world_size)
        if dist_impl is not None and dist_impl not in DIST_IMPLS:
            raise ValueError(f"dist_impl must be None or one of {DIST_IMPLS}, got {dist_impl!r}")
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.dist_impl = dist_impl or "bidir"
        self.chunk_size = chunk_size
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
            logit_bias: float or one-element tensor; None is 0.
        """
        loss = siglip_loss(
            image_features,
            text_features,
            logit_scale,
            0.0 if logit_bias is None else logit_bias,
            backend=self.backend,
            workspace=self.workspace,
        )
        return {"contrastive_loss": loss} if output_dict else loss

    def extra_repr(self) -> str:
        return f"backend={self.backend!r}, workspace={self.workspace}"
