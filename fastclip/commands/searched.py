"""What the search commands share: the folder of embeddings, its model, images or texts."""

import argparse
import sys

from fastclip.commands.model_arguments import add_model_flags
from fastclip.embeddings.reader import Embeddings, open_embeddings
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.inference import InferenceModel, open_model
from fastclip.models.tower_precision import IN_16_BITS
from fastclip.printable import printable_lines

OUT_HELP = "The folder of embeddings, written by `fastclip embed` or clip-retrieval."


def add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    """Add OUT, --over and --root."""
    parser.add_argument("out", metavar="OUT", help=OUT_HELP)
    group = parser.add_argument_group("the embeddings")
    group.add_argument("--over", choices=("images", "texts"),
        help="Use the vectors of images or of texts. The default is images, or texts if there are "
        "no images.")  # fmt: skip
    group.add_argument("--root", metavar="FOLDER",
        help="The folder of the images, if they have moved since they were embedded.")  # fmt: skip


def add_searched_arguments(parser: argparse.ArgumentParser) -> None:
    """Add OUT, --over, --root and the flags of the model that encodes queries."""
    add_folder_arguments(parser)
    add_model_flags(parser)


def opened(args: argparse.Namespace) -> Embeddings:
    """Open the folder of embeddings, and print its notes to standard error."""
    embeddings = open_embeddings(args.out, root=args.root)
    for note in embeddings.notes:
        print(printable_lines(f"{embeddings.folder}: {note}"), file=sys.stderr)
    return embeddings


def model_of_embeddings(
    args: argparse.Namespace, embeddings: Embeddings, only: str | None = None
) -> InferenceModel:
    """Open the model that the arguments name, or else the one that the manifest names.

    Args:
        only: the only tower that is needed, "image" or "text"; None for both.

    Raises:
        ValueError: no model is named, or the manifest's model cannot be opened.
    """
    record = embeddings.manifest and embeddings.manifest.model
    precision = args.precision
    if precision is None and record is not None and record.precision in IN_16_BITS:
        precision = record.precision  # rounded weights give other vectors
    options = {
        "device": args.device, "precision": precision, "cache_dir": args.cache_dir, "only": only,
    }  # fmt: skip
    if args.model is not None:
        return open_model(args.model, args.pretrained, **options)
    if record is None:
        raise ValueError(f"{embeddings.folder} does not say which model made it: give --model")
    try:
        return open_model(record.name, args.pretrained or record.pretrained or None, **options)
    except (CheckpointError, OSError, ValueError) as error:
        raise ValueError(
            f"the model of {embeddings.folder} cannot be opened ({error}): give --model"
        ) from error
