"""One step of training: the gradient of one loss, clipped; a step of AdamW; the scale clamped.

The number of a step determines its learning rate, so that a run can resume anywhere.

A loss that is a module takes part in all of this: its parameters are stepped with the model's, and
whatever its forward writes into its buffers and its extra state, such as a queue of features and
its cursor, belongs to the step.

A step whose loss or gradient is not finite is not taken: weights, buffers, moments and the average
stay as they were to the bit; the step's number, learning rate and batch are used up.

    float16 overflows      with a loss scale: the step is left out, and the scale is halved. Once
                           the scale would fall below 1, the scale is not the cause: the run stops
    any other case         stops the run, or the step is left out (`on_nonfinite`), at most
                           `max_skipped_steps` in a row

Ranks agree without communicating, because the loss and the averaged gradients have the same bits
on all of them.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.counts import StepCounts
from fastclip.train.step.gradient_norm import gradient_norm, limit_norm
from fastclip.train.step.gradient_sync import unwrapped
from fastclip.train.step.model_call import Batch
from fastclip.train.step.not_finite import OF_LOSS, objection_to_step
from fastclip.train.step.schedule import learning_rate_at
from fastclip.train.weights.masters import NO_MASTERS, MasteredModel, MasterWeights

LEAST_SCALE = 1.0


class StepOutcome(NamedTuple):
    """Attributes:
    loss: of the whole batch, in nats.
    logit_scale: the multiplicative scale that the loss was computed with.
    gradient_norm: before clipping.
    objection: why the step was left out, in a sentence; None if it was taken.
    terms: the terms of the loss, by name.
    """

    loss: float
    logit_scale: float
    gradient_norm: float
    objection: str | None
    terms: dict[str, float]


class OptimizerStep:
    """Takes optimiser steps on a model, and on its loss if that is a module.

    Args:
        compute: computes the gradients, and scales them for float16 if it has a scaler.
        optimizer: of the parameters of `compute.model`, or of their masters, and of the parameters
            of `compute.loss`; its learning rate is set at every step.
        config: the schedule, the limit of the norm, and what to do if a step is not finite.
        average: of the weights, or of their masters; it is updated after every taken step.
        masters: of 16-bit parameters, with which `optimizer` was made.
        average_of_keys: another average, which encodes keys for the loss.

    Attributes:
        counts: of the steps so far.
    """

    def __init__(
        self,
        compute: CachedStep,
        optimizer: torch.optim.Optimizer,
        config: StepConfig,
        average: AveragedModel | None = None,
        masters: MasterWeights = NO_MASTERS,
        average_of_keys: AveragedModel | None = None,
    ) -> None:
        self.compute = compute
        self.optimizer = optimizer
        self.config = config
        self.average = average
        self.average_of_keys = average_of_keys
        self.masters = masters
        self.counts = StepCounts()

    def __call__(
        self, batches: Sequence[tuple[Batch, Batch]], number: int, **of_loss: Any
    ) -> StepOutcome:
        """Take step `number`, counted from 0, over micro-batches of (images, texts).

        Args:
            of_loss: keyword arguments of the loss, see `CachedStep`.

        Raises:
            FloatingPointError: the loss or the gradient is not finite, and the step may not be
                left out; everything is as it was before the step.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(number, self.config)
        self._drop_gradients()
        buffers = _Buffers(self._trained.values())
        result = self.compute.over(batches, **of_loss)
        gradients = self._gradients()
        numbers = (
            result.loss, result.logit_scale, gradient_norm(gradients), *result.terms.values()
        )  # fmt: skip
        # One transfer for everything that the host needs from the device.
        device = result.loss.device
        loss, scale, norm, *terms = torch.stack(
            [x.to(device, torch.float64) for x in numbers]
        ).tolist()
        named = dict(zip(result.terms, terms, strict=True))
        if math.isfinite(loss) and math.isfinite(norm):
            self._take(gradients, norm)
            return StepOutcome(loss, scale, norm, None, named)
        buffers.put_back()
        try:
            return StepOutcome(loss, scale, norm, self._leave_out(number + 1, loss), named)
        finally:
            self._drop_gradients()

    @property
    def _model(self) -> nn.Module:
        return unwrapped(self.compute.model)

    @property
    def _trained(self) -> dict[str, nn.Module]:
        """The modules that a step changes, by the prefix of the names of their parameters."""
        loss = unwrapped(self.compute.loss)
        return {"": self._model} | ({OF_LOSS: loss} if isinstance(loss, nn.Module) else {})

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what the optimiser steps, by the model's names; names of the loss have a prefix."""
        names: dict[nn.Parameter, str] = {}
        for prefix, module in self._trained.items():
            for name, parameter in module.named_parameters():
                names.setdefault(parameter, prefix + name)
        for parameter, name in names.items():
            yield name, self.masters.of(parameter)

    def _drop_gradients(self) -> None:
        for module in self._trained.values():
            module.zero_grad()
        self.masters.drop_gradients()

    def _gradients(self) -> list[Tensor]:
        """Unscale the gradients, move them to where the optimiser finds them, and return them."""
        self.masters.take_gradients()
        if self.compute.scaler is not None:
            self.compute.scaler.unscale_(self.optimizer)
        return [p.grad for _, p in self._parameters() if p.grad is not None]

    def _take(self, gradients: list[Tensor], norm: float) -> None:
        if self.config.grad_clip_norm is not None:
            limit_norm(gradients, norm, self.config.grad_clip_norm)
        self.optimizer.step()
        if self.compute.scaler is not None:
            self.compute.scaler.update()
        self.masters.write_back()
        self._model.clamp_logit_scale()
        for average in (self.average, self.average_of_keys):
            if average is not None:
                average.update_parameters(MasteredModel(self._model, self.masters))
        self.counts.take()

    def _leave_out(self, number: int, loss: float) -> str:
        """Count step `number`, from 1, and return why it is not taken; raise to end the run."""
        before, after = self._scales(math.isfinite(loss))
        if after < before:
            return self._overflow(number, loss, before, after)
        self.counts.skip()
        text = f"{objection_to_step(number, loss, self._parameters())}; the step is not taken"
        if self.config.on_nonfinite == "stop":
            raise FloatingPointError(
                f"{text}, and weights, moments and averages are as they were before it: lower the "
                "learning rate, or leave such steps out with --on-nonfinite skip"
            )
        if self.counts.skipped_in_a_row > self.config.max_skipped_steps:
            raise FloatingPointError(
                f"{text}. {self.counts.skipped_in_a_row} steps in a row were left out, more than "
                f"--max-skipped-steps {self.config.max_skipped_steps}: lower the learning rate, "
                "and resume from a checkpoint before them"
            )
        return text

    def _scales(self, has_loss: bool) -> tuple[float, float]:
        """Return the loss scale before and after the scaler has seen the gradients.

        Args:
            has_loss: the loss is finite. If it is not, no other scale would help.
        """
        scaler = self.compute.scaler
        if scaler is None:
            return 1.0, 1.0
        before = scaler.get_scale()
        scaler.update(None if has_loss else before)
        return before, scaler.get_scale()

    def _overflow(self, number: int, loss: float, before: float, after: float) -> str:
        self.counts.overflow()
        if after < LEAST_SCALE:
            raise FloatingPointError(
                f"{objection_to_step(number, loss, self._parameters())}; the step is not taken. "
                f"The loss scale has fallen to {before:g}, so that a smaller scale would "
                "not help: lower the learning rate, or use --precision amp_bf16"
            )
        return (
            f"the gradient of step {number} overflows float16 at a loss scale of {before:,g}; the "
            f"step is not taken, and the scale is now {after:,g}"
        )


class _Buffers:
    """Copies of buffers and extra states before a step, such as running statistics or a queue.

    Unlike `Replay`, it copies all of them, because running statistics do not count their changes.
    """

    def __init__(self, roots: Iterable[nn.Module]) -> None:
        modules = [module for root in roots for module in root.modules()]
        self._held = [
            (module._buffers, name, buffer, None if buffer is None else buffer.clone())
            for module in modules
            for name, buffer in module._buffers.items()
        ]
        self._extra = [
            (module, deepcopy(module.get_extra_state()))
            for module in modules
            if type(module).get_extra_state is not nn.Module.get_extra_state
        ]

    def put_back(self) -> None:
        with torch.no_grad():
            for buffers, name, tensor, copy in self._held:
                buffers[name] = tensor if tensor is None else tensor.copy_(copy)
        for module, state in self._extra:
            module.set_extra_state(state)
