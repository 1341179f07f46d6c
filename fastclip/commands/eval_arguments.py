"""The flags of `fastclip eval`, and the checks of which flags go together."""

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
Evaluates a trained model: zero-shot classification with prompts, retrieval with one or several
captions per image, and linear probes. Prints every score with a 95 % interval, and the accuracy of
few-shot probes with its range over the draws. Images are encoded once for all tasks. A wrong answer
that is exactly as near as the right one counts against the model; the number of such ties is
printed.
"""
EPILOG = """\
For example, in an empty folder, with the built-in digits:

    fastclip demo
    fastclip eval demo-output/checkpoint.pt --data digits digits-held-out
    fastclip eval demo-output/checkpoint.pt --data digits --train-data digits-train --task all \\
        --figure digits.png --output demo.jsonl

With your own data, which are a folder with one folder of images per class, or pairs:

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
# Maps flags to the only tasks that use them.
OF_TASKS = {
    "classes": (ZERO_SHOT,), "templates": (ZERO_SHOT,), "subset": (ZERO_SHOT,),
    "recall_at": (RETRIEVAL,), "train_data": TRAINED, "shots": (FEW_SHOT,), "seeds": (FEW_SHOT,),
}  # fmt: skip


def number_from(least: int) -> Callable[[str], int]:
    """Return a function that parses a number and requires it to be at least `least`."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return number


def add_eval_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL and all flags of `fastclip eval` to its parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "%(prog)s MODEL --data DATA [DATA ...] [options]\n       %(prog)s --compare A B"
    add_model_arguments(parser, is_required=False)
    _add_data(parser.add_argument_group("the data"))
    _add_tasks(parser.add_argument_group("the tasks"))
    group = parser.add_argument_group("the results")
    group.add_argument("--output", type=Path, metavar="FILE",
        help="The file to append results to, one line of JSON each.")  # fmt: skip
    group.add_argument("--format", choices=tuple(FORMATS),
        help="The form of the lines of --output: fastclip, with all that is known, or what "
        "programs for CLIP_benchmark or DataComp read. The default is fastclip.")  # fmt: skip
    group.add_argument("--figure", type=Path, metavar="FILE.png",
        help="Draw the zero-shot, few-shot and full-probe accuracy of one data set to this file. "
        "It needs matplotlib.")  # fmt: skip
    group.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"),
        help="Evaluate nothing; compare two files that --output has written, and say which of the "
        "two models is better on the same images.")  # fmt: skip
    group = parser.add_argument_group("the machine")
    group.add_argument("--features", type=Path, metavar="FOLDER",
        help="The folder to keep features in, so that the next evaluation of this model on these "
        "data encodes nothing. Features of another model, of other data or of files that have "
        "changed since are refused.")  # fmt: skip
    group.add_argument("--batch-size", type=number_from(1), default=64, metavar="N",
        help="The number of images or prompts that are encoded at once. The default is "
            "64.")  # fmt: skip
    group.add_argument("--workers", type=number_from(0), default=NUM_WORKERS, metavar="N",
        help="The number of processes that read and decode images. With 0, the process that "
        "encodes does this itself. The default is 4.")  # fmt: skip
    group.add_argument("--decode", choices=DECODINGS, default="exact",
        help="How JPEGs are decoded. With fast, a JPEG that is much larger than the model's images "
        "is decoded at a half, a quarter or an eighth of its size, but at least at twice theirs. "
        "Features change a little, and are kept apart from exact ones. The default is "
        "exact.")  # fmt: skip


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data", nargs="+", action="extend", metavar="DATA",
        help="The data to evaluate on: a folder with one folder of images per class, a folder of "
        "images with captions next to them, tar shards (also CLIP_benchmark's folders of them), a "
        ".csv or .tsv table, a Hugging Face data set, or a built-in data set: digits (labelled) or "
        "digits-held-out (pairs).")  # fmt: skip
    group.add_argument("--train-data", nargs="+", action="extend", metavar="DATA",
        help="The labelled images to train probes on: one data set for each labelled DATA, in the "
        "same order; for digits it is digits-train.")  # fmt: skip
    group.add_argument("--dataset-type", choices=DATASET_TYPES, default="auto",
        help="How to read DATA. By default names and the contents of folders decide it; a Hugging "
        "Face data set that is given by its name needs hf.")  # fmt: skip
    group.add_argument("--split", metavar="NAME",
        help="The split of a Hugging Face data set, or of CLIP_benchmark's folders. The default is "
        "test.")  # fmt: skip
    group.add_argument("--train-split", metavar="NAME",
        help="The split of --train-data. The default is train.")  # fmt: skip
    group.add_argument("--csv-separator", metavar="TEXT",
        help="The separator of the columns of a table. By default the header shows which it is: a "
        "tab, a comma, a semicolon or |.")  # fmt: skip
    group.add_argument("--image-key", metavar="NAME",
        help="The column of images in a table, or the suffixes of images in shards and "
            "folders.")  # fmt: skip
    group.add_argument("--caption-key", metavar="NAME",
        help="The column of captions in a table, or the suffix of captions in shards and "
            "folders.")  # fmt: skip
    group.add_argument("--label-key", metavar="NAME",
        help="The column of labels in a table, or the suffix of labels in shards. If it is given, "
        "the data are labelled images. The default is label in tables and cls in "
        "shards.")  # fmt: skip
    group.add_argument("--max-bad-rate", type=float, default=0.1, metavar="RATE",
        help="The largest fraction of samples that may be unreadable; such samples are counted and "
        "left out. The default is 0.1.")  # fmt: skip


def _add_tasks(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--task", nargs="+", action="extend", choices=(*TASKS, ALL),
        help="The tasks to do. By default labelled images are classified zero-shot, and also "
        "probed if there is --train-data, and pairs are retrieved; all adds few-shot "
        "probes.")  # fmt: skip
    group.add_argument("--classes", metavar="FILE",
        help="The names of the classes: a text file with one name per line, a .json file, or "
        "imagenet. The names are in the order of the labels or of the sorted folders, which is "
        "printed, or in any order if they are the data's own names. By default the data's own "
        "names are used.")  # fmt: skip
    group.add_argument("--templates", nargs="+", metavar="TEMPLATE",
        help="The prompts for a class: texts in which {} stands for the class name; or imagenet80 "
        "or imagenet7, for built-in templates; or none, for the name alone; or a text file with a "
        "template per line, or a .json file, in which {c} may also stand for the name. By default "
        "the templates that come with the data, or else 'a photo of a {}.'")  # fmt: skip
    group.add_argument("--subset", metavar="FILE",
        help="A text file with the classes that images may belong to, one per line, as for "
        "ImageNet-R: no other class is predicted. If the data have as many classes as the file, "
        "they are matched by name or, if their names differ, in the order of the "
        "file.")  # fmt: skip
    group.add_argument("--recall-at", nargs="+", type=number_from(1), metavar="K",
        help="The values of K in the R@K of retrieval. The default is "
            f"{_listed(RECALLS)}.")  # fmt: skip
    group.add_argument("--shots", nargs="+", type=number_from(1), metavar="K",
        help="The numbers of images per class that few-shot probes are trained on. The default is "
        f"{_listed(SHOTS)}.")  # fmt: skip
    group.add_argument("--seeds", type=number_from(1), metavar="N",
        help="How many times the images of few-shot probes are drawn. The default is "
            "3.")  # fmt: skip


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """Return the flags that set up the tasks, as arguments of `evaluate_data`."""
    names = ("classes", "templates", "subset", "recall_at", "shots", "seeds")
    found = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if len(found.get("templates", ())) == 1:
        found["templates"] = found["templates"][0]  # a file, or the name of several templates
    return found


def reading(args: argparse.Namespace, is_to_train: bool = False) -> Reading:
    """Return how the flags say to read --data, or --train-data if `is_to_train`."""
    split, other = (args.train_split, "train") if is_to_train else (args.split, "test")
    return Reading(
        args.dataset_type, args.csv_separator, args.image_key, args.caption_key, args.label_key,
        split, other,
    )  # fmt: skip


def require_flags_looked_at(
    args: argparse.Namespace, data: Sequence[LookedAt], train_data: Sequence[LookedAt]
) -> None:
    """Refuse flags that none of the data sets uses.

    Raises:
        ValueError: there is such a flag.
    """
    *of_files, split = FIELDS
    require_looked_at(reading(args), [*data, *train_data], of_files, FLAGS)
    require_looked_at(reading(args), data, [split], FLAGS)
    if args.train_split is not None and not train_data:
        raise ValueError("--train-split has no effect without --train-data")
    names = FLAGS | {split: "--train-split"}
    require_looked_at(reading(args, is_to_train=True), train_data, [split], names)


def require_use(args: argparse.Namespace, tasks: Sequence[str]) -> None:
    """Refuse flags that none of the tasks uses.

    Raises:
        ValueError: there is such a flag.
    """
    for name, of in OF_TASKS.items():
        if getattr(args, name) is not None and not set(of) & set(tasks):
            raise ValueError(
                f"--{name.replace('_', '-')} has no effect: it belongs to the task "
                f"{' and '.join(of)}, and the tasks here are {', '.join(tasks)}"
            )
    if args.format is not None and args.output is None:
        raise ValueError("--format has no effect without --output")
    if args.format == "datacomp" and (trained := [task for task in tasks if task in TRAINED]):
        raise ValueError(f"DataComp has no task {trained[0]!r}: choose another --format")


def _listed(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))
