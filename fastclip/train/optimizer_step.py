"""One step of training: the gradient of one loss, a limit to its norm, AdamW, the scale clamped.

The number of a step determines its learning rate, so that a run may go on anywhere.
"""

from collections.abc import Sequence

import torch
from torch.optim.swa_utils import AveragedModel

from fastclip.train.config import TrainConfig
from fastclip.train.gradient_sync import unwrapped
from fastclip.train.master_weights import NO_MASTERS, MasteredModel, MasterWeights
from fastclip.train.model_call import Batch
from fastclip.train.schedule import learning_rate_at
from fastclip.train.sharding import clip_gradients
from fastclip.train.step import CachedStep, StepResult


class OptimizerStep:
    """Takes optimiser steps on a model.

    Args:
        compute: makes the gradients, and scales them for float16 if it has a scaler.
        optimizer: of the parameters of `compute.model`, or of their masters; its rate is set at
            every step.
        config: the schedule and the limit of the norm.
        average: of the weights, of the masters where there are some, brought up to date after
            every step.
        masters: of 16-bit parameters, that `optimizer` was made with.
    """

    def __init__(
        self,
        compute: CachedStep,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        average: AveragedModel | None = None,
        masters: MasterWeights = NO_MASTERS,
    ) -> None:
        self.compute = compute
        self.optimizer = optimizer
        self.config = config
        self.average = average
        self.masters = masters

    def __call__(self, batches: Sequence[tuple[Batch, Batch]], number: int) -> StepResult:
        """Take step `number`, counted from 0, over micro-batches of (images, texts).

        Raises:
            FloatingPointError: the loss is not finite; the weights are those before the step.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(number, self.config)
        self.compute.model.zero_grad()
        result = self.compute.over(batches)
        if not torch.isfinite(result.loss):
            raise FloatingPointError(
                f"the loss of step {number + 1} is {result.loss.item()}; the weights are those "
                "before it; lower the learning rate"
            )
        self._update()
        model = unwrapped(self.compute.model)
        model.clamp_logit_scale()
        if self.average is not None:
            self.average.update_parameters(MasteredModel(model, self.masters))
        return result

    def _update(self) -> None:
        scaler = self.compute.scaler
        self.masters.take_gradients()
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        if self.config.grad_clip_norm is not None:
            parameters = map(self.masters.of, self.compute.model.parameters())
            clip_gradients(parameters, self.config.grad_clip_norm)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        self.masters.write_back()
