"""Settings of a run that cannot do what they say, found before it starts."""

from collections.abc import Iterator

from fastclip.train.config import TrainConfig
from fastclip.train.run_config import RunConfig
from fastclip.train.schedule import learning_rate_at

ZERO_SHOT_FILES = ("zeroshot_classes", "zeroshot_templates")
STANDS_STILL = 0.5  # share of an average that is still what it began with


def cautions(config: RunConfig, training: TrainConfig, steps_per_epoch: int) -> list[str]:
    """Sentences, each about a setting that has another effect than its name says, or none.

    Args:
        training: made of `config` for epochs of `steps_per_epoch` steps.
    """
    found = [*_without_effect(config), _of_warmup(training)]
    if training.lr_scheduler == "const-cooldown":
        found.append(_of_cooldown(config, training, steps_per_epoch))
    found.append(_of_average(config, training))
    return [text for text in found if text is not None]


def _without_effect(config: RunConfig) -> list[str]:
    """Settings that were given and that another one, or its absence, makes meaningless."""
    defaults = RunConfig()
    found = []
    for reason, names in _meaningless(config):
        for name in names:
            value = getattr(config, name)
            if value != getattr(defaults, name):
                shown = "" if value is True else f" {value}"
                found.append(f"{_flag(name)}{shown} has no effect: {reason}")
    return found


def _meaningless(config: RunConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Reasons, and the settings that have no effect for each."""
    of_cooldown = ("epochs_cooldown", "lr_cooldown_power", "lr_cooldown_end")
    if config.skip_scheduler:
        reason = "--skip-scheduler trains at one learning rate, without warm-up or cooldown"
        yield reason, ("warmup", "lr_scheduler", *of_cooldown)
    elif config.lr_scheduler != "const-cooldown":
        reason = f"it is of --lr-scheduler const-cooldown, and this run has {config.lr_scheduler}"
        yield reason, of_cooldown
    if config.zeroshot_data is None:
        yield "it is of --zeroshot-data, which is not given", ZERO_SHOT_FILES
    if not config.lock_image:
        names = ("lock_image_unlocked_groups", "lock_image_freeze_bn_stats")
        yield "it is of --lock-image, which is not given", names
    if not config.lock_text:
        yield "it is of --lock-text, which is not given", ("lock_text_unlocked_layers",)
    if config.global_batch_size is not None:
        reason = (
            "--global-batch-size says how many pairs there are, --micro-batch-size of what size"
        )
        yield reason, ("accum_freq",)
    if "wandb" not in config.reporters:
        names = ("wandb_project_name", "wandb_notes")
        yield "it is of --report-to wandb, which is not given", names


def _of_warmup(training: TrainConfig) -> str | None:
    steps, warmup = training.steps, training.warmup_steps
    if steps > warmup or (steps == warmup and training.lr_scheduler == "const"):
        return None
    highest = learning_rate_at(steps - 1, training)
    return (
        f"the run has {_steps(steps)}, all of them in the warm-up of {_steps(warmup)}: the "
        f"learning rate reaches {highest:.3g} of the {training.learning_rate:.3g} of --lr, and "
        f"the {training.lr_scheduler} schedule does not begin; try --warmup "
        f"{max(1, steps // 10)} or less"
    )


def _of_cooldown(config: RunConfig, training: TrainConfig, steps_per_epoch: int) -> str | None:
    asked, done = config.epochs_cooldown * steps_per_epoch, training.lr_cooldown_steps
    if asked == 0:
        return "--epochs-cooldown 0: the learning rate of const-cooldown does not fall"
    if asked <= done:
        return None
    return (
        f"--epochs-cooldown {config.epochs_cooldown} is {_steps(asked)}, and {_steps(done)} of the "
        f"{_steps(training.steps)} of the run are left after the warm-up of "
        f"{_steps(training.warmup_steps)}: the learning rate falls over {_steps(done)}"
    )


def _of_average(config: RunConfig, training: TrainConfig) -> str | None:
    if config.ema_decay is None:
        return None
    share = config.ema_decay ** (training.steps - 1)
    if share <= STANDS_STILL:
        return None
    return (
        f"--ema-decay {config.ema_decay} over {_steps(training.steps)}: at the end, {share:.0%} of "
        "the average of the weights, which is evaluated, are still the weights after the first "
        "step; a smaller --ema-decay follows the weights faster"
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _steps(num: int) -> str:
    return f"{num:,} step" if num == 1 else f"{num:,} steps"
