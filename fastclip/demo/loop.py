"""The training loop: draw a batch, the gradient of one loss over all of it, step.

Where the batch is too large to encode at once, `config.micro_batch_size` says what is, and the
gradient is the same (`step.py`). The loss sees the whole batch and never holds its B x B logits.
"""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastclip.models.clip import CLIP
from fastclip.train.settings.step_config import TrainConfig
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.optimizer_step import OptimizerStep
from fastclip.train.step.schedule import learning_rate_at


class StepMetrics(NamedTuple):
    step: int  # from 1
    loss: float  # nats, before the step
    logit_scale: float  # multiplicative, that the loss was computed with
    learning_rate: float
    seconds: float  # of the whole step, drawing the batch included
    objection: str | None = None  # why the step was left out, if it was


def train(
    model: CLIP,
    optimizer: torch.optim.Optimizer,
    loss: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    config: TrainConfig,
    on_step: Callable[[StepMetrics], None] | None = None,
) -> list[StepMetrics]:
    """Train `model` in place for `config.steps` steps and return what each step measured.

    Args:
        model: its parameters are those of `optimizer`.
        optimizer: its learning rate is set by the schedule at every step.
        loss: called with (B, D) image features, (B, D) text features and the () logit scale.
        batches: pairs of (B, channels, height, width) float images and (B, T) int64 tokens.
        on_step: called after each step, for a progress bar or a log.

    Raises:
        ValueError: `batches` ends early.
        FloatingPointError: a loss or a gradient is not finite, and `config.on_nonfinite` is "stop",
            or too many are; the weights are those before that step.
    """
    model.train()
    compute = CachedStep(
        model, loss, config.micro_batch_size or config.batch_size, config.activation_budget
    )
    take_step = OptimizerStep(compute, optimizer, config)
    history = []
    batches = iter(batches)
    for step in range(config.steps):
        started = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            raise ValueError(f"batches ended after {step} of {config.steps} steps")
        outcome = take_step(list(compute.micro_batches(*batch)), step)
        metrics = StepMetrics(
            step + 1, outcome.loss, outcome.logit_scale, learning_rate_at(step, config),
            time.perf_counter() - started, outcome.objection,
        )  # fmt: skip
        history.append(metrics)
        if on_step is not None:
            on_step(metrics)
    return history
