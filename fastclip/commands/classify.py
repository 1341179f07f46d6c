"""`fastclip classify`: say which of the classes on the command line each image shows."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain

from fastclip.commands.model_arguments import (
    FAILED,
    add_model_arguments,
    if_stopped,
    model_of,
    refusing,
)
from fastclip.counted import counted
from fastclip.data.loading.bad_samples import listed
from fastclip.data.sources.image_files import image_files
from fastclip.evaluate.answers import Answer
from fastclip.evaluate.class_prompts import ClassPrompts, read_class_prompts
from fastclip.evaluate.image_classifier import BATCH_SIZE, ImageClassifier
from fastclip.printable import printable
from fastclip.progress import is_watched, progress_bar, write_line

SOME_SKIPPED = 1  # the exit status
STDIN = "-"
MANY_TEXTS = 1000  # more texts take so long that a progress bar helps
DESCRIPTION = """\
Says which of the given classes each image shows: the class whose prompts are nearest to the image.
Prints a table per image, with the nearest classes first. The probability is the softmax, over the
given classes, of the model's logit scale times the cosine. If several classes are exactly equally
near, none of them is chosen.
"""
EPILOG = """\
for example
    fastclip classify ViT-B-32 cat.jpg photos/ --pretrained laion2b_s34b_b79k \\
        --classes cat dog "fire engine" --templates imagenet80
    fastclip classify logs/my-run photos/ --classes names.txt --json > answers.jsonl
    find . -name "*.png" | fastclip classify logs/my-run - --classes cat dog
    fastclip demo && fastclip classify demo-output/checkpoint.pt digit.png \\
        --classes digits --templates digits

An image that cannot be read is named on standard error, counted, and skipped. The exit status is 0
if all images were classified, 1 if some were skipped, and 2 if none could be classified or the
command failed. With --json, a skipped image has a line too: {"image": ..., "skipped": ...}.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "%(prog)s MODEL IMAGE [IMAGE ...] --classes NAME NAME ... [options]"
    add_model_arguments(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+",
        help="An image file; a folder, for all images in it and its subfolders; or -, to read "
        "paths from standard input, one per line.")  # fmt: skip
    group = parser.add_argument_group("the classes")
    group.add_argument("--classes", metavar="NAME", nargs="+", required=True,
        help="The names of at least two classes; or one file that has a name per line, or is JSON "
        "in CLIP_benchmark's form; or imagenet or digits, for built-in names.")  # fmt: skip
    group.add_argument("--templates", metavar="TEMPLATE", nargs="+",
        help="The prompts for a class: texts in which {} stands for the class name; or imagenet80, "
        "imagenet7 or digits, for built-in templates; or none, for the name alone; or one file "
        "that has a template per line, or is JSON with CLIP_benchmark's templates or with complete "
        "prompts for each class, as CuPL writes them. The default is 'a photo of a "
        "{}.'")  # fmt: skip
    group.add_argument("--dataset", metavar="NAME",
        help="The entry to read from a JSON file that covers several data sets.")  # fmt: skip
    group = parser.add_argument_group("the answers")
    group.add_argument("--top", type=_positive, default=5, metavar="K",
        help="How many classes are shown for each image. The default is %(default)s.")  # fmt: skip
    group.add_argument("--json", action="store_true",
        help="Print one JSON object per image, each on its own line. The summary goes to standard "
        "error.")  # fmt: skip
    group.add_argument("--strict", action="store_true",
        help="Stop at the first image that cannot be read, with exit status 2.")  # fmt: skip
    group.add_argument("--batch-size", type=_positive, default=BATCH_SIZE, metavar="N",
        help="How many images are encoded at once. Answers are printed after each such batch. The "
        "default is %(default)s.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    return refusing("classify", _classify, args)


def _classify(args: argparse.Namespace) -> int:
    prompts = read_class_prompts(_one_or_all(args.classes), args.templates, args.dataset)
    others: Counter[str] = Counter()
    images = image_files(_paths(args.images), others)
    total = None
    if STDIN not in args.images:
        images = list(images)
        total = len(images)
    classifier = _classifier(args, prompts)
    skipped: Counter[str] = Counter()
    num_classified = 0
    with (
        if_stopped(lambda: printable(_counted(num_classified, skipped))),
        progress_bar(total, title="classifying", unit="image", shown=is_watched()) as advance,
    ):
        for answer in classifier.answers(images, args.top, args.batch_size):
            if answer.skipped is None:
                num_classified += 1
            else:
                _, reason, detail, _ = answer.skipped
                text = f"{answer.image}: {reason}" + (f" ({detail})" if detail else "")
                if args.strict:
                    raise ValueError(text)
                skipped[reason] += 1
                write_line(printable(f"fastclip classify: skipped {text}"), sys.stderr)
            _show(answer, args.json)
            advance(1, "")
    if not num_classified and not skipped:
        raise ValueError("no image was named")
    summary = _summary(num_classified, skipped, others, prompts, classifier)
    print(summary, file=sys.stderr if args.json else sys.stdout)
    if not num_classified:
        return FAILED
    return SOME_SKIPPED if skipped else 0


def _classifier(args: argparse.Namespace, prompts: ClassPrompts) -> ImageClassifier:
    num = len(set(chain(*prompts.prompts)))
    ready = model_of(args)
    shown = is_watched() and num > MANY_TEXTS
    with progress_bar(num, title="prompts", unit="text", shown=shown) as advance:
        return ImageClassifier.of(ready, prompts, lambda more: advance(more, ""))


def _one_or_all(classes: list[str]) -> str | list[str]:
    """Return a single value alone: it says where to find the names of the classes."""
    if len(classes) == 1:
        return classes[0]
    if files := [name for name in classes if name.lower().endswith((".txt", ".json"))]:
        raise ValueError(f"--classes: {files[0]} would be a class name; give a file alone")
    return classes


def _paths(arguments: list[str]) -> Iterator[str]:
    for argument in arguments:
        if argument != STDIN:
            yield argument
            continue
        for line in sys.stdin.buffer:
            if path := os.fsdecode(line).rstrip("\r\n"):
                yield path


def _show(answer: Answer, as_json: bool) -> None:
    if as_json:
        write_line(json.dumps(answer.to_dict(), allow_nan=False), sys.stdout)
    elif answer.skipped is None:
        write_line(_table(answer), sys.stdout)


def _table(answer: Answer) -> str:
    lines = [printable(answer.image), "  rank  probability   cosine  class"]
    lines += [
        f"  {rank:>4}  {probability:>11.4f}  {cosine:>7.4f}  {printable(name)}"
        for rank, name, probability, cosine in answer.guesses
    ]
    if answer.num_nearest > 1:
        lines.append(f"  no class is chosen: {answer.num_nearest} classes are equally near")
    return "\n".join([*lines, ""])


def _summary(
    num_classified: int, skipped: Counter[str], others: Counter[str], prompts: ClassPrompts,
    classifier: ImageClassifier,
) -> str:  # fmt: skip
    line = _counted(num_classified, skipped)
    if others:
        line += f"; {counted(others.total(), 'file')} in folders ignored: {listed(others)}"
    names = classifier.names
    classes = f"{len(names):,} classes, {prompts.said}"
    if len(prompts.names) > len(names):
        classes = f"{len(names):,} classes of {len(prompts.names):,} names, {prompts.said}"
    scale = f"probabilities at a logit scale of {classifier.ready.logit_scale:.4g}"
    return f"{printable(line)}\n{printable(classes)}; {scale}"


def _counted(num_classified: int, skipped: Counter[str]) -> str:
    line = f"{counted(num_classified, 'image')} classified"
    return f"{line}, {skipped.total()} skipped: {listed(skipped)}" if skipped else line


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a number of at least 1, got {text!r}")
    return value
