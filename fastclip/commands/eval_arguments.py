"""The flags of `fastclip eval`, and which of them go together."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastclip.commands.model_arguments import add_model_arguments
from fastclip.data.preprocess import DECODINGS
from fastclip.evaluate.evaluation import ALL, FEW_SHOT, RETRIEVAL, TASKS, TRAINED, ZERO_SHOT
from fastclip.evaluate.metrics import RECALLS
from fastclip.evaluate.probe.few_shot import SHOTS
from fastclip.evaluate.results.formats import FORMATS
from fastclip.evaluate.sets.reading import (
    DATASET_TYPES,
    FIELDS,
    LookedAt,
    Reading,
    require_looked_at,
)

DESCRIPTION = """\
Evaluates a trained model: zero-shot classification with prompts, retrieval with several captions
of an image, and linear probes, with an interval for every number. Images are encoded once for all
tasks. What is exactly as near as the right answer counts against the model, and is counted.
"""
EPILOG = """\
For example, in an empty folder, with the built-in digits:

    fastclip demo
    fastclip eval demo-output/checkpoint.pt --data digits digits-held-out
    fastclip eval demo-output/checkpoint.pt --data digits --train-data digits-train --task all \\
        --figure digits.png --output demo.jsonl

and with data of your own, a folder with a folder of images for each class, or pairs:

    fastclip eval ViT-B-32 --pretrained laion2b_s34b_b79k --data imagenet/val \\
        --templates imagenet80 --output base.jsonl
    fastclip eval logs/my-run --data imagenet/val coco.tsv --output mine.jsonl
    fastclip eval --compare base.jsonl mine.jsonl
"""
NUM_WORKERS = 4
FLAGS = {
    "separator": "--csv-separator", "image_key": "--image-key", "caption_key": "--caption-key",
    "label_key": "--label-key", "split": "--split",
}  # fmt: skip
# Flags that some tasks alone look at.
OF_TASKS = {
    "classes": (ZERO_SHOT,), "templates": (ZERO_SHOT,), "subset": (ZERO_SHOT,),
    "recall_at": (RETRIEVAL,), "train_data": TRAINED, "shots": (FEW_SHOT,), "seeds": (FEW_SHOT,),
}  # fmt: skip


def number_from(least: int) -> Callable[[str], int]:
    """Return what reads a number of at least `least`."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return number


def add_eval_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL and all flags."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "%(prog)s MODEL --data DATA [DATA ...] [options]\n       %(prog)s --compare A B"
    add_model_arguments(parser, is_required=False)
    _add_data(parser.add_argument_group("the data"))
    _add_tasks(parser.add_argument_group("the tasks"))
    group = parser.add_argument_group("the results")
    group.add_argument("--output", type=Path, metavar="FILE",
        help="A file to which a line of JSON is appended for every result.")  # fmt: skip
    group.add_argument("--format", choices=tuple(FORMATS),
        help="The form of these lines: all that is known (fastclip), or what programs for "
        "CLIP_benchmark or DataComp read. The default is fastclip.")  # fmt: skip
    group.add_argument("--figure", type=Path, metavar="FILE.png",
        help="A figure of zero-shot, few-shot and full probe of one data set, which needs "
        "matplotlib.")  # fmt: skip
    group.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"),
        help="Evaluate nothing, and say which of two models is better on the same images, by two "
        "files that --output has written.")  # fmt: skip
    group = parser.add_argument_group("the machine")
    group.add_argument("--features", type=Path, metavar="FOLDER",
        help="Where features are kept, so that the next evaluation of this model on these data "
        "encodes nothing. Those of another model, of other data or of files that were written "
        "since are refused.")  # fmt: skip
    group.add_argument("--batch-size", type=number_from(1), default=64, metavar="N",
        help="Images, or prompts, that are encoded at once. The default is 64.")  # fmt: skip
    group.add_argument("--workers", type=number_from(0), default=NUM_WORKERS, metavar="N",
        help="Processes that read and decode images. With 0, the process that encodes does this "
        "itself. The default is 4.")  # fmt: skip
    group.add_argument("--decode", choices=DECODINGS, default="exact",
        help="With fast, a JPEG that is much larger than the images of the model is decoded in a "
        "half, a quarter or an eighth of its size, at least twice theirs. Features change a "
        "little, and are kept apart from exact ones. The default is exact.")  # fmt: skip


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data", nargs="+", action="extend", metavar="DATA",
        help="What to evaluate on: a folder with a folder of images for each class, a folder of "
        "images with captions beside them, tar shards (also CLIP_benchmark's folders of them), a "
        ".csv or .tsv table, a Hugging Face data set, or one of the built-in: digits (labelled), "
        "digits-held-out (pairs).")  # fmt: skip
    group.add_argument("--train-data", nargs="+", action="extend", metavar="DATA",
        help="Labelled images to train probes on, for each labelled DATA one, in the same order; "
        "for digits it is digits-train.")  # fmt: skip
    group.add_argument("--dataset-type", choices=DATASET_TYPES, default="auto",
        help="How DATA are read. By default this goes by names and by what is in a folder; the "
        "name of a Hugging Face data set needs hf.")  # fmt: skip
    group.add_argument("--split", metavar="NAME",
        help="The split of a Hugging Face data set, or of CLIP_benchmark's folders. The default is "
        "test.")  # fmt: skip
    group.add_argument("--train-split", metavar="NAME",
        help="The same of --train-data. The default is train.")  # fmt: skip
    group.add_argument("--csv-separator", metavar="TEXT",
        help="The character that separates columns of a table. By default it is looked for in "
        "the header: a tab, a comma, a semicolon or |.")  # fmt: skip
    group.add_argument("--image-key", metavar="NAME",
        help="The column of images, or their suffixes in shards and folders.")  # fmt: skip
    group.add_argument("--caption-key", metavar="NAME",
        help="The column of captions, or their suffix.")  # fmt: skip
    group.add_argument("--label-key", metavar="NAME",
        help="The column of labels, or in shards their suffix: the data are then labelled images. "
        "By default it is label, or cls.")  # fmt: skip
    group.add_argument("--max-bad-rate", type=float, default=0.1, metavar="RATE",
        help="The fraction of samples that may be unreadable; they are counted and left out. The "
        "default is 0.1.")  # fmt: skip


def _add_tasks(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--task", nargs="+", action="extend", choices=(*TASKS, ALL),
        help="What to do. By default labelled images are classified zero-shot, and probed if there "
        "is --train-data, and pairs are retrieved; all adds probes of few images.")  # fmt: skip
    group.add_argument("--classes", metavar="FILE",
        help="The names of the classes: a text with one on each line, a .json file, or imagenet. "
        "They are in the order of the labels or of the sorted folders, which is said; or in any "
        "order, if they are the data's own. By default they are these.")  # fmt: skip
    group.add_argument("--templates", nargs="+", metavar="TEMPLATE",
        help="What is said of a class: texts with {} where the name goes; or imagenet80, "
        "imagenet7, or none for names alone; or a file with a text on each line, or a .json file, "
        "where the name may also go where {c} is. "
        "By default those that come with the data, or 'a photo of a {}.'")  # fmt: skip
    group.add_argument("--subset", metavar="FILE",
        help="A text with the classes that images may belong to, on a line each, as for "
        "ImageNet-R: no other is predicted. Data with as many classes are of these, by name or, "
        "where they call them otherwise, in this order.")  # fmt: skip
    group.add_argument("--recall-at", nargs="+", type=number_from(1), metavar="K",
        help=f"The K of R@K in retrieval. The default is {_listed(RECALLS)}.")  # fmt: skip
    group.add_argument("--shots", nargs="+", type=number_from(1), metavar="K",
        help="How many images of each class few-shot probes are trained on. The default is "
        f"{_listed(SHOTS)}.")  # fmt: skip
    group.add_argument("--seeds", type=number_from(1), metavar="N",
        help="How many draws of those images there are. The default is 3.")  # fmt: skip


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """What is said of the tasks, as `evaluate_data` takes it."""
    names = ("classes", "templates", "subset", "recall_at", "shots", "seeds")
    found = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if len(found.get("templates", ())) == 1:
        found["templates"] = found["templates"][0]  # a file, or a name of several
    return found


def reading(args: argparse.Namespace, is_to_train: bool = False) -> Reading:
    """How the flags say that --data are read, or --train-data."""
    split, other = (args.train_split, "train") if is_to_train else (args.split, "test")
    return Reading(
        args.dataset_type, args.csv_separator, args.image_key, args.caption_key, args.label_key,
        split, other,
    )  # fmt: skip


def require_flags_looked_at(
    args: argparse.Namespace, data: Sequence[LookedAt], train_data: Sequence[LookedAt]
) -> None:
    """Refuse flags that none of the data sets looks at.

    Raises:
        ValueError: there is one.
    """
    *of_files, split = FIELDS
    require_looked_at(reading(args), [*data, *train_data], of_files, FLAGS)
    require_looked_at(reading(args), data, [split], FLAGS)
    if args.train_split is not None and not train_data:
        raise ValueError("--train-split has no effect without --train-data")
    names = FLAGS | {split: "--train-split"}
    require_looked_at(reading(args, is_to_train=True), train_data, [split], names)


def require_use(args: argparse.Namespace, tasks: Sequence[str]) -> None:
    """Refuse flags that none of the tasks looks at.

    Raises:
        ValueError: there is one.
    """
    for name, of in OF_TASKS.items():
        if getattr(args, name) is not None and not set(of) & set(tasks):
            raise ValueError(
                f"--{name.replace('_', '-')} has no effect: it is of the task {' and '.join(of)}, "
                f"and what is done here is {', '.join(tasks)}"
            )
    if args.format is not None and args.output is None:
        raise ValueError("--format has no effect without --output")
    if args.format == "datacomp" and (trained := [task for task in tasks if task in TRAINED]):
        raise ValueError(f"DataComp has no task {trained[0]!r}: choose another --format")


def _listed(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))
