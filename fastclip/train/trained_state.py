"""What training changes, as a checkpoint holds it: parameters, moments, the scaler, an average."""

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class TrainedState:
    """The state of a model under training, under the names of open_clip's checkpoints.

    Args:
        average: of the weights; its parameters are stored as "ema_state_dict".
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None = None,
        average: AveragedModel | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scaler = scaler
        self.average = average

    def state_dict(self) -> dict[str, Any]:
        content = {
            "state_dict": self.model.state_dict(), "optimizer": self.optimizer.state_dict()
        }  # fmt: skip
        if self.scaler is not None:
            content["scaler"] = self.scaler.state_dict()
        if self.average is not None:
            content["ema_state_dict"] = self.average.module.state_dict()
            content["ema_updates"] = self.average.n_averaged.item()
        return content

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """
        Raises:
            ValueError: `content` lacks a part, being of a run without it.
        """
        for name, part in (("scaler", self.scaler), ("ema_state_dict", self.average)):
            if part is not None and name not in content:
                raise ValueError(f"the checkpoint has no {name}: its run was without")
        self.model.load_state_dict(content["state_dict"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.scaler is not None:
            self.scaler.load_state_dict(content["scaler"])
        if self.average is not None:
            self.average.module.load_state_dict(content["ema_state_dict"])
            self.average.n_averaged.fill_(content["ema_updates"])
