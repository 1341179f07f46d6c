"""The learning rate over a run: a linear rise, then one of three schedules.

    warm-up          lr * (step + 1) / warmup_steps                          step < warmup_steps
    cosine           lr * (1 + cos(pi * progress)) / 2                       progress from 0 to 1
    const            lr
    const-cooldown   lr, and over the last cooldown_steps
                     end + (lr - end) * (1 - progress)^power                 progress from 0 to 1

The learning rate of a step is a function of its number alone, so that a run can resume anywhere.

Source: Loshchilov and Hutter 2016, arXiv:1608.03983, without restarts; names and formulas as in
open_clip 3.3.0 (`--lr-scheduler`).
"""

import math

from fastclip.train.settings.step_config import StepConfig


def learning_rate_at(step: int, config: StepConfig) -> float:
    """Return the learning rate of optimiser step `step`, counted from 0."""
    peak = config.learning_rate
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    if config.lr_scheduler == "cosine":
        return peak * (1 + math.cos(math.pi * _progress(step, config.warmup_steps, config))) / 2
    start = config.steps - config.lr_cooldown_steps
    if config.lr_scheduler == "const" or step < start:
        return peak
    left = (1 - _progress(step, start, config)) ** config.lr_cooldown_power
    return config.lr_cooldown_end + (peak - config.lr_cooldown_end) * left


def _progress(step: int, start: int, config: StepConfig) -> float:
    """Return the progress of a step, from 0 at `start` to 1 at the end of the run."""
    return min(1.0, (step - start) / max(1, config.steps - start))
