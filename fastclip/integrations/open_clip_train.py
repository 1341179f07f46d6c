"""open_clip's own trainer with fastclip's losses.

    python -m fastclip.integrations.open_clip_train --train-data pairs.csv --model ViT-B-32 ...

takes the command line of `python -m open_clip_train.main` and runs it, with one name replaced: the
function that makes the loss. In open_clip 3 this is `create_loss`; in open_clip 4 it is
`create_task`, whose task gets fastclip's loss. Models, data, optimiser, checkpoints and logs are
open_clip's.

Gradients are always exact: `--local-loss` and `--gather-with-grad` are accepted without effect. In
open_clip, without either flag, features get 1 / W of the gradient over W ranks; with the first flag
alone, they get another direction, which is not a gradient of the loss.
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
    """Replace the loss of a task of open_clip 4 by fastclip's loss of the same name.

    Args:
        task: such as `open_clip.CLIPTask`. It calls its attribute `loss` with the model's outputs
            by name and `output_dict=True`, and adds up the results whose names end in `_loss`. The
            scale may have shape () or, as with FSDP, (1,).
        args: open_clip's parsed command line, as `fastclip.create_loss` takes it.

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
            f"the loss of {type(task).__name__} must be one of {', '.join(KINDS)}, and the loss "
            f"that args ask for ({type(ours).__name__}), got {theirs}"
        )
    task.loss = ours
    return task


def patch(trainer: ModuleType) -> None:
    """Make `open_clip_train.main` train with fastclip's losses.

    Raises:
        ValueError: the module has neither `create_loss` nor `create_task`.
    """
    if callable(getattr(trainer, "create_task", None)):
        trainer.create_task = _with_our_loss(trainer.create_task)
    elif callable(getattr(trainer, "create_loss", None)):
        trainer.create_loss = _said_loss
    else:
        raise ValueError(
            f"{trainer.__name__} must have create_loss, as in open_clip 3, or create_task, as in "
            "open_clip 4, and has neither: this version of open_clip_torch is not supported"
        )


def main(arguments: Sequence[str] | None = None) -> Any:
    """Run open_clip's trainer.

    Args:
        arguments: the trainer's command line; None is this process's.

    Raises:
        ModuleNotFoundError: open_clip_torch, or what its trainer imports, is not installed.
        NotImplementedError: fastclip's losses do not support a flag, such as --horovod.
        ValueError: as `patch`.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    trainer = import_host("open_clip_train.main", EXTRA)
    patch(trainer)
    # Refuse now what would otherwise be refused after the data and the model have been loaded.
    args = Namespace(**vars(trainer.parse_args(arguments)))
    teacher = (getattr(args, name, None) for name in ("distill_model", "distill_pretrained"))
    args.distill = None not in teacher
    args.rank, args.world_size = None, None
    create_loss(args)
    return trainer.main(arguments)


def _said_loss(args: Any) -> nn.Module:
    """Return the loss, and name it in the run's log when open_clip makes it."""
    loss = create_loss(args)
    logging.getLogger(__name__).info("The loss is fastclip's %s.", loss)
    return loss


def _with_our_loss(create_task: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def create(args: Any, *others: Any, **named: Any) -> nn.Module:
        return use_fastclip_loss(create_task(args, *others, **named), args)

    return create


if __name__ == "__main__":
    sys.exit(main())
