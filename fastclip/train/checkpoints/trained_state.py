"""The state that training changes, as a checkpoint holds it: weights, moments, scaler, average.

It also has how many steps of the run were taken, and how many were left out. A loss with parameters
or buffers, such as a learned temperature or a queue of features, is stored whole.

Weights are stored as the optimiser steps them: if 16-bit parameters have float32 masters, the
masters are stored. A model of any dtype can load them, and rounding them gives the parameters to
the bit. An average of the weights is always float32.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils._pytree import tree_map_only

from fastclip.train.step.counts import StepCounts
from fastclip.train.weights.masters import NO_MASTERS, MasterWeights
from fastclip.train.weights.sharding import shared_like, whole

LOSS, KEY_ENCODER = "loss_state_dict", "key_encoder_state_dict"


class TrainedState:
    """The state of a model under training, under the names of open_clip's checkpoints.

    Args:
        average: of the weights; its parameters are stored as "ema_state_dict".
        masters: of 16-bit parameters, stored in their place under "state_dict".
        counts: of steps, stored under "steps".
        loss: stored as "loss_state_dict", unless its state is empty, as for a `ClipLoss`.
        average_of_keys: the encoder of a queue's keys, stored as "key_encoder_state_dict".
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None = None,
        average: AveragedModel | None = None,
        masters: MasterWeights = NO_MASTERS,
        counts: StepCounts | None = None,
        loss: nn.Module | None = None,
        average_of_keys: AveragedModel | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scaler = scaler
        self.average = average
        self.masters = masters
        self.counts = counts or StepCounts()
        self.loss = nn.Module() if loss is None else loss
        self.average_of_keys = average_of_keys

    def state_dict(self) -> dict[str, Any]:
        """Return the state in whole tensors, even if sharded; all ranks call this together."""
        content = {
            "state_dict": _whole(self.model.state_dict() | self.masters.state_dict()),
            "optimizer": _whole(self.optimizer.state_dict()),
            "steps": self.counts.state_dict(),
        }
        if self.scaler is not None:
            content["scaler"] = self.scaler.state_dict()
        if of_loss := self.loss.state_dict():
            content[LOSS] = of_loss
        if self.average is not None:
            content["ema_state_dict"] = _whole(self.average.module.state_dict())
            content["ema_updates"] = self.average.n_averaged.item()
        if self.average_of_keys is not None:
            content[KEY_ENCODER] = _whole(self.average_of_keys.module.state_dict())
        return content

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Restore the state from a checkpoint.

        Raises:
            ValueError: `content` lacks a part that this run has, or is of a run that trains other
                parameters, or another loss.
        """
        parts = {
            "scaler": self.scaler, "ema_state_dict": self.average,
            KEY_ENCODER: self.average_of_keys,
        }  # fmt: skip
        for name, part in parts.items():
            if part is not None and name not in content:
                raise ValueError(f"the checkpoint has no {name}, which this run needs")
        of_loss = content.get(LOSS, {})
        if (objection := _objection_to_loss(of_loss, self.loss.state_dict())) is not None:
            raise ValueError(objection)
        self.loss.load_state_dict(of_loss)
        _load(self.model, content["state_dict"])
        self.masters.load_state_dict(content["state_dict"])
        self._load_optimizer(content["optimizer"])
        self.counts.load_state_dict(content.get("steps") or _all_taken(content))
        if self.scaler is not None:
            self.scaler.load_state_dict(content["scaler"])
        if self.average is not None:
            _load(self.average.module, content["ema_state_dict"])
            self.average.n_averaged.fill_(content["ema_updates"])
        if self.average_of_keys is not None:
            _load(self.average_of_keys.module, content[KEY_ENCODER])

    def _load_optimizer(self, content: dict[str, Any]) -> None:
        """Load moments and counts of steps, but not the settings of the optimiser."""
        own = self.optimizer.param_groups
        counts, own_counts = (
            [len(group["params"]) for group in groups] for groups in (content["param_groups"], own)
        )
        if counts != own_counts:
            raise ValueError(
                f"the optimizer in the checkpoint trains {sum(counts)} parameters, in groups of "
                f"{counts}, but this run trains {sum(own_counts)}, in groups of {own_counts}: "
                "other towers or layers are locked"
            )
        parameters = [p for group in own for p in group["params"]]
        state = {
            index: {name: _shared_like(value, parameters[index]) for name, value in of.items()}
            for index, of in content["state"].items()
        }
        groups = [
            {**group, "params": stored["params"]}
            for group, stored in zip(own, content["param_groups"], strict=True)
        ]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def on_the_cpu(content: Any) -> Any:
    """Return nested values with all tensors moved to the CPU."""
    return tree_map_only(Tensor, Tensor.cpu, content)


def _objection_to_loss(stored: dict[str, Any], own: dict[str, Any]) -> str | None:
    """Return why this run's loss cannot load the state of the checkpoint's loss, or None."""
    was, now = ({name: _shape(value) for name, value in of.items()} for of in (stored, own))
    if was == now:
        return None
    if not was:
        return f"the checkpoint has no state of a loss, but the loss of this run has {_told(now)}"
    return (
        f"the checkpoint is of another loss: the state of its loss has {_told(was)}, and the state "
        f"of this run's loss has {_told(now) or 'nothing'}"
    )


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _told(shapes: dict[str, str]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def _all_taken(content: dict[str, Any]) -> dict[str, int]:
    """Return the counts of steps for a file of an earlier version, which only counted all steps."""
    steps = content.get("global_step", 0)
    return {"taken": steps, "taken_in_epoch": steps}


def _whole(content: Any) -> Any:
    return tree_map_only(Tensor, whole, content)


def _load(model: nn.Module, content: dict[str, Tensor]) -> None:
    own = model.state_dict()
    shares = {
        name: shared_like(value, own[name]) if name in own else value
        for name, value in content.items()
    }
    model.load_state_dict(shares)


def _shared_like(value: Any, parameter: nn.Parameter) -> Any:
    """Shard a value of the optimiser like its parameter, if it is a tensor of the same shape."""
    return shared_like(value, parameter) if isinstance(value, Tensor) else value
