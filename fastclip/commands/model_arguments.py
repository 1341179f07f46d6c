"""The arguments that name a trained model and its device, and how commands report errors."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.inference import InferenceModel, open_model
from fastclip.models.tower_precision import PRECISIONS
from fastclip.printable import printable_lines

FAILED = 2  # the exit status of a command that failed
# Errors that a user's files, names or machine can cause; any other error is a fault of fastclip.
ERRORS = (CheckpointError, ImportError, OSError, RuntimeError, ValueError)
MODEL_HELP = (
    "The trained model: the directory of a run of `fastclip train`, a checkpoint, a directory of "
    "weights, `hf-hub:owner/name`, or the name of an architecture together with --pretrained."
)


def add_model_arguments(parser: argparse.ArgumentParser, is_required: bool = True) -> None:
    """Add MODEL and the flags that go with it."""
    number = None if is_required else "?"
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP, nargs=number)
    _add_flags(parser.add_argument_group("the model"))


def add_weights_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL and the flags that name its weights, for commands without --device."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    _add_weights_flags(parser.add_argument_group("the model"))


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add --model and the flags that go with it, for commands that find the model in a file."""
    group = parser.add_argument_group("the model")
    group.add_argument("--model", metavar="MODEL",
        help=f"{MODEL_HELP} The default is the model that made the embeddings, read from where it "
        "was then.")  # fmt: skip
    _add_flags(group)


def _add_weights_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--pretrained", metavar="TAG|FILE",
        help="The weights of an architecture: a tag from fastclip.list_pretrained(), or a "
        "file.")  # fmt: skip
    group.add_argument("--cache-dir", metavar="FOLDER",
        help="The folder in which published weights are kept.")  # fmt: skip


def _add_flags(group: argparse._ArgumentGroup) -> None:
    _add_weights_flags(group)
    group.add_argument("--device", metavar="DEVICE",
        help="The device of the model, for example cpu or cuda:1. The default is the GPU, if torch "
        "finds one.")  # fmt: skip
    group.add_argument("--precision", choices=PRECISIONS,
        help="The precision of the model. The default is amp_bf16 on a GPU and fp32 "
        "elsewhere.")  # fmt: skip


def model_of(args: argparse.Namespace, only: str | None = None) -> InferenceModel:
    """Open the model that the arguments name, or one tower of it; raises like `open_model`."""
    return open_model(
        args.model, args.pretrained, device=args.device, precision=args.precision,
        cache_dir=args.cache_dir, only=only,
    )  # fmt: skip


def refusing(
    command: str, work: Callable[[argparse.Namespace], int], args: argparse.Namespace
) -> int:
    """Run a command and return its exit status; a user's error becomes one line on stderr."""
    try:
        return work(args)
    except BrokenPipeError:
        raise  # the reader of the output is gone, which `cli.py` handles
    except ERRORS as error:
        return fail(command, error)


@contextmanager
def if_stopped(told: Callable[[], str]) -> Iterator[None]:
    """End the command at Ctrl-C with the text of `told()`, which says what is complete."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(told()) from None


def fail(command: str, error: Exception | str) -> int:
    """Print to standard error why a command failed, and return its exit status."""
    print(f"fastclip {command}: {printable_lines(str(error))}", file=sys.stderr)
    return FAILED
