"""The base of `ClipLoss` and `SigLipLoss`: open_clip's call, and the ranks that share a loss."""

from typing import Any

from torch import Tensor, nn
from torch.distributed import ProcessGroup

from fastclip.distributed.groups import check_membership, check_schedule, find_group
from fastclip.literals import Backend, Schedule


class ContrastiveLoss(nn.Module):
    """Base of the losses over the pairs of one process or of several.

    A subclass defines `loss_of`, and an `__init__` with open_clip's arguments.

    Raises:
        TypeError, ValueError: as `ClipLoss`.
    """

    def __init__(
        self,
        rank: int | None,
        world_size: int | None,
        backend: Backend,
        workspace: int | None,
        process_group: ProcessGroup | None,
        schedule: Schedule,
    ) -> None:
        super().__init__()
        check_schedule(schedule)
        check_membership(rank, world_size, process_group)
        self.rank = rank
        self.world_size = world_size
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
        **of_batch: Any,
    ) -> Tensor | dict[str, Tensor]:
        """Return the loss, () float32, or {"contrastive_loss": loss} if `output_dict`.

        Args:
            image_features: (B, D), unit rows; of this rank.
            text_features: (B, D), same dtype and device, unit rows; of this rank.
            logit_scale: float or one-element tensor, already exponentiated.
            logit_bias: float or one-element tensor; see the class.
            of_batch: further arguments that the function of the loss takes, by name.
        """
        loss = self.loss_of(
            image_features,
            text_features,
            logit_scale,
            logit_bias,
            backend=self.backend,
            workspace=self.workspace,
            process_group=find_group(self.rank, self.world_size, self.process_group),
            schedule=self.schedule,
            **of_batch,
        )
        return {"contrastive_loss": loss} if output_dict else loss

    def loss_of(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        logit_bias: float | Tensor | None,
        **settings: Any,
    ) -> Tensor:
        """Return the loss of this rank's features; `settings` are `clip_loss`'s options."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"backend={self.backend!r}, workspace={self.workspace}, schedule={self.schedule!r}"
