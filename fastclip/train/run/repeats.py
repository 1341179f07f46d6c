"""Warns of copies of a sample in a batch: when a run has them, and what they do to the loss."""

import math

from fastclip.train.settings.batch_config import Arithmetic
from fastclip.train.settings.data_config import MADE_TYPES
from fastclip.train.settings.loss_config import CLIP
from fastclip.train.settings.run_config import RunConfig


def repeats_in_a_batch(
    config: RunConfig, num_samples: int | None, arithmetic: Arithmetic, steps_per_epoch: int
) -> str | None:
    """Return a warning if batches contain samples several times, with the effect on the loss.

    A batch that is larger than the data contains all samples several times. A smaller batch of
    several micro-batches may begin in one pass over the data and end in the next.

    Args:
        num_samples: of the data; None if the data does not say.
        steps_per_epoch: optimiser steps.

    Returns:
        The warning, or None if no batch contains a sample twice.
    """
    if num_samples is None or config.dataset_type in MADE_TYPES:
        return None
    size = arithmetic.global_batch_size
    if size > num_samples:
        return _of_large_batches(config, num_samples, size)
    in_a_step = arithmetic.num_micro_batches
    in_a_pass = num_samples // (size // in_a_step)
    in_the_run = config.epochs * steps_per_epoch * in_a_step
    if in_a_pass % in_a_step == 0 or in_the_run <= in_a_pass or config.mask_duplicates is not None:
        return None
    return (
        f"a pass over the {num_samples:,} samples has {in_a_pass:,} micro-batches, which is not a "
        f"multiple of the {in_a_step:,} in a step: a step that begins in one pass and ends in the "
        "next may contain a sample twice, and copies of a pair count as its negatives; "
        "--mask-duplicates both leaves them out"
    )


def _of_large_batches(config: RunConfig, num_samples: int, size: int) -> str:
    times = size / num_samples
    text = (
        f"a batch of {size:,} contains each of the {num_samples:,} samples {times:.3g} times on "
        "average"
    )
    if config.mask_duplicates is not None:
        return f"{text}: --mask-duplicates {config.mask_duplicates} leaves out the copies"
    floor = f", and no model gets below a loss of ln {times:.3g} = {math.log(times):.3g} nats"
    return (
        f"{text}: copies of a pair count as its negatives"
        f"{floor if config.loss_name == CLIP else ''}; --mask-duplicates both leaves them out"
    )
