"""open_clip's own trainer with fastclip's losses.

    python -m fastclip.integrations.open_clip_train --train-data pairs.csv --model ViT-B-32 ...

takes the command line of `python -m open_clip_train.main` and runs it, with one name replaced: the
function that makes the loss. That is `create_loss` in open_clip 3, and in 4 the loss of the task
that `create_task` returns. Models, data, optimiser, checkpoints and logs are open_clip's.

There is one right gradient: `--local-loss` and `--gather-with-grad` are accepted and of no effect.
In open_clip, without either, features get 1 / W of it over W ranks; with the first alone another
direction, which is none of the loss's.
"""

import logging
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from torch import nn

from fastclip.integrations.host import import_host
from fastclip.losses.create import create_loss

EXTRA = "peers"
KINDS = ("ClipLoss", "SigLipLoss", "CoCaLoss", "DistillClipLoss")


def use_fastclip_loss(task: nn.Module, args: Namespace | Any) -> nn.Module:
    """Replace the loss of a task of open_clip 4 by fastclip's of the same name.

    Args:
        task: such as `open_clip.CLIPTask`, whose attribute `loss` is called by the names of the
            model's outputs with `output_dict=True`; of the result, what ends in `_loss` is summed.
            The scale may be () or (1,), as FSDP has it.
        args: of open_clip's command line, as `fastclip.create_loss` takes them.

    Returns:
        The task itself.

    Raises:
        ValueError: the task has no contrastive loss that fastclip knows.

    Example:
        >>> task = use_fastclip_loss(open_clip.create_task(args, model=model), args)
    """
    theirs = type(getattr(task, "loss", None)).__name__
    ours = _said_loss(args)
    if theirs not in KINDS or type(ours).__name__ != theirs:
        raise ValueError(
            f"the loss of {type(task).__name__} must be one of {', '.join(KINDS)}, and the one "
            f"that args ask for ({type(ours).__name__}), got {theirs}"
        )
    task.loss = ours
    return task


def patch(trainer: ModuleType) -> None:
    """Make `open_clip_train.main` train with fastclip's losses.

    Raises:
        ValueError: the module makes its losses in neither of the known ways.
    """
    if callable(getattr(trainer, "create_task", None)):
        trainer.create_task = _with_our_loss(trainer.create_task)
    elif callable(getattr(trainer, "create_loss", None)):
        trainer.create_loss = _said_loss
    else:
        raise ValueError(
            f"{trainer.__name__} must have create_loss, as in open_clip 3, or create_task, as in "
            "4, and has neither: this version of open_clip_torch is not known"
        )


def main(arguments: Sequence[str] | None = None) -> Any:
    """Run open_clip's trainer.

    Args:
        arguments: its command line; None is that of this process.

    Raises:
        ModuleNotFoundError: open_clip_torch, or what its trainer imports, is not installed.
        NotImplementedError: a flag asks for what fastclip's losses do not do, such as --horovod.
        ValueError: as `patch`.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    trainer = import_host("open_clip_train.main", EXTRA)
    patch(trainer)
    # Refused now, and not after the data and the model have been loaded.
    args = Namespace(**vars(trainer.parse_args(arguments)))
    teacher = (getattr(args, name, None) for name in ("distill_model", "distill_pretrained"))
    args.distill = None not in teacher
    args.rank, args.world_size = None, None
    create_loss(args)
    return trainer.main(arguments)


def _said_loss(args: Any) -> nn.Module:
    """The loss, which the run's log names where open_clip asks for it."""
    loss = create_loss(args)
    logging.getLogger(__name__).info("The loss is fastclip's %s.", loss)
    return loss


def _with_our_loss(create_task: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def create(args: Any, *others: Any, **named: Any) -> nn.Module:
        return use_fastclip_loss(create_task(args, *others, **named), args)

    return create


if __name__ == "__main__":
    sys.exit(main())
