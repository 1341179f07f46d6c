"""Learning rate over a run: a linear rise, then half a cosine down to zero.

    warm-up   lr * (step + 1) / warmup_steps                          step < warmup_steps
    cosine    lr * (1 + cos(pi * progress)) / 2                       progress from 0 to 1

Source: Loshchilov and Hutter 2016, arXiv:1608.03983, without restarts.
"""

import math

from fastclip.train.config import TrainConfig


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Learning rate of optimiser step `step`, counted from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (1 + math.cos(math.pi * min(1.0, progress))) / 2
