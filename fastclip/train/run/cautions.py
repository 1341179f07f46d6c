"""Warnings about settings that cannot have their full effect in a run, found before it starts.

Settings without any effect are in `settings/idle.py`.
"""

from fastclip.counted import counted
from fastclip.train.settings.loss_config import QUEUE
from fastclip.train.settings.optimisation_config import WARMUP_FRACTION, OptimisationConfig
from fastclip.train.settings.output_config import LogConfig
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.schedule import learning_rate_at

STANDS_STILL = 0.5  # warn if more than this fraction of an average is still its first value


def cautions(config: RunConfig, training: StepConfig, steps_per_epoch: int) -> list[str]:
    """Return a warning for each setting that has less effect than its name promises.

    Args:
        training: made from `config` for epochs of `steps_per_epoch` steps.
    """
    found = [_of_warmup(training)]
    if training.lr_scheduler == "const-cooldown":
        found.append(_of_cooldown(config, training, steps_per_epoch))
    found += [_of_average(config, training), _of_curve(config, training)]
    found.append(_of_queue(config, training, steps_per_epoch))
    return [text for text in found if text is not None]


def default_warmup(config: OptimisationConfig, training: StepConfig) -> str | None:
    """Return a sentence about the length of the warm-up if it was not given, or None.

    Args:
        config: the settings as they were given.
        training: the settings in force.
    """
    if config.warmup is not None or config.skip_scheduler:
        return None
    usual, warmup = config.warmup_of(training.steps), training.warmup_steps
    if warmup != usual:
        return (
            f"--warmup is not given: the warm-up keeps the {_steps(warmup)} of the checkpoint, "
            f"though a new run of {_steps(training.steps)} would have a warm-up of {usual:,}"
        )
    if warmup == 0:
        return f"--warmup is not given: a run of {_steps(training.steps)} has no warm-up"
    part = (
        "a tenth of the run's"
        if warmup == training.steps // WARMUP_FRACTION
        else "the longest default warm-up; the run has"
    )
    return (
        f"--warmup is not given: the learning rate rises for {_steps(warmup)}, {part} "
        f"{_steps(training.steps)}"
    )


def _of_warmup(training: StepConfig) -> str | None:
    steps, warmup = training.steps, training.warmup_steps
    if steps > warmup or (steps == warmup and training.lr_scheduler == "const"):
        return None
    highest = learning_rate_at(steps - 1, training)
    return (
        f"the run has {_steps(steps)}, which all lie in the warm-up of {_steps(warmup)}: the "
        f"learning rate rises to {highest:.3g} (--lr is {training.learning_rate:.3g}), and the "
        f"{training.lr_scheduler} schedule never begins; try --warmup {max(1, steps // 10)} or "
        "less"
    )


def _of_cooldown(
    config: OptimisationConfig, training: StepConfig, steps_per_epoch: int
) -> str | None:
    asked, done = config.epochs_cooldown * steps_per_epoch, training.lr_cooldown_steps
    if asked == 0:
        return "--epochs-cooldown is 0, so the learning rate of const-cooldown does not fall"
    if asked <= done:
        return None
    return (
        f"--epochs-cooldown {config.epochs_cooldown} asks for {_steps(asked)}, but the run of "
        f"{_steps(training.steps)} has {_steps(done)} left after the warm-up of "
        f"{_steps(training.warmup_steps)}: the learning rate falls over {_steps(done)}"
    )


def _of_average(config: OptimisationConfig, training: StepConfig) -> str | None:
    if not config.ema_decay:
        return None
    share = config.ema_decay ** (training.steps - 1)
    if share <= STANDS_STILL:
        return None
    return (
        f"--ema-decay {config.ema_decay} is slow for a run of {_steps(training.steps)}: at the "
        f"end, {share:.0%} of the average of the weights, which is evaluated, still come from the "
        "weights after the first step; a smaller --ema-decay follows the weights faster"
    )


def _of_curve(config: LogConfig, training: StepConfig) -> str | None:
    every = config.batch_curve_every
    if every is None or every <= training.steps:
        return None
    return f"--batch-curve-every {every} gives no curve: the run has {_steps(training.steps)}"


def _of_queue(config: RunConfig, training: StepConfig, steps_per_epoch: int) -> str | None:
    num_pairs = training.batch_size * steps_per_epoch
    if config.loss_name != QUEUE or config.queue_size < num_pairs or config.mask_duplicates:
        return None  # a pair's earlier embeddings have the id of the pair and are left out
    return (
        f"--queue-size {config.queue_size} is at least the {num_pairs:,} pairs of an epoch, so "
        "that a pair meets its own earlier embeddings in the queue as negatives: choose a smaller "
        "--queue-size"
    )


def _steps(num: int) -> str:
    return counted(num, "step")
