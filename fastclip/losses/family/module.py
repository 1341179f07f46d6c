"""`FamilyLoss`: the base class of the loss modules, which keeps their options."""

from typing import Any

from torch import Tensor, nn
from torch.distributed import ProcessGroup

from fastclip.distributed.groups import check_membership, check_schedule, find_group


class FamilyLoss(nn.Module):
    """Base of the losses whose function takes `temperature`, `logit_scale` and the options below.

    Args:
        temperature: divides the scores; None is the function's default. If it is given, a call
            with a `logit_scale` is an error: they are one number by two names.
        normalize: whether features are divided by their norms first.
        reduction: "mean", "sum" or "none".
        backend, workspace: see `fastclip.clip_loss`.
        process_group: the processes that share a loss; None is torch.distributed's default group,
            if it is initialised.
        schedule: "gather" or "ring", see `fastclip.info_nce_loss`.
        world_size: 1 computes the loss of this process alone, even if torch.distributed is
            initialised. Any other number is checked.

    Raises:
        TypeError, ValueError: as `fastclip.ClipLoss`.
    """

    rank = None  # any rank; only `ClipLoss` takes it as an argument
    schedule = "gather"  # the default of modules that were pickled before there was another

    def __init__(
        self,
        temperature: float | Tensor | None = None,
        *,
        normalize: bool = True,
        reduction: str = "mean",
        backend: str = "auto",
        workspace: int | None = None,
        process_group: ProcessGroup | None = None,
        world_size: int | None = None,
        schedule: str = "gather",
    ) -> None:
        super().__init__()
        check_schedule(schedule)
        check_membership(None, world_size, process_group)
        self.temperature = temperature
        self.normalize = normalize
        self.reduction = reduction
        self.backend = backend
        self.workspace = workspace
        self.process_group = process_group
        self.world_size = world_size
        self.schedule = schedule

    def settings(self, logit_scale: float | Tensor | None) -> dict[str, Any]:
        """Return the options of the loss's function for a call with this `logit_scale`."""
        return {
            "temperature": self.temperature,
            "logit_scale": logit_scale,
            "normalize": self.normalize,
            "reduction": self.reduction,
            "backend": self.backend,
            "workspace": self.workspace,
            "process_group": find_group(None, self.world_size, self.process_group),
            "schedule": self.schedule,
        }

    def extra_repr(self) -> str:
        return (
            f"temperature={self.temperature}, normalize={self.normalize}, "
            f"reduction={self.reduction!r}, backend={self.backend!r}, workspace={self.workspace}, "
            f"schedule={self.schedule!r}"
        )
