"""`fastclip classify`: what images show, of classes that are named on the command line."""

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
from fastclip.data.loading.bad_samples import listed
from fastclip.data.sources.image_files import image_files
from fastclip.evaluate.answers import Answer
from fastclip.evaluate.class_prompts import ClassPrompts, read_class_prompts
from fastclip.evaluate.image_classifier import BATCH_SIZE, ImageClassifier
from fastclip.printable import printable
from fastclip.progress import is_watched, progress_bar, write_line

SOME_SKIPPED = 1  # the exit status
STDIN = "-"
MANY_TEXTS = 1000  # that take so long that a bar is of use
DESCRIPTION = """\
Says of each image which of the classes it shows, by the class whose prompts lie nearest. An image
has a table, with the nearest classes first: the probability is the softmax of the model's scale
times the cosine, among the classes that are given. Of several that are as near, none is chosen.
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
if all images were classified, 1 if some were skipped, and 2 if none could be, or the command is
refused. With --json, an image that was skipped has a line too, {"image": ..., "skipped": ...}.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "%(prog)s MODEL IMAGE [IMAGE ...] --classes NAME NAME ... [options]"
    add_model_arguments(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+",
        help="An image file; a folder, for all images in it and below; or -, for paths on standard "
        "input, one a line.")  # fmt: skip
    group = parser.add_argument_group("the classes")
    group.add_argument("--classes", metavar="NAME", nargs="+", required=True,
        help="The names of two classes or more; or a single file, with a name per line or in JSON, "
        "as CLIP_benchmark has it; or imagenet, or digits.")  # fmt: skip
    group.add_argument("--templates", metavar="TEMPLATE", nargs="+",
        help="What is said of a class: texts with {} where the name goes; or imagenet80, "
        "imagenet7, digits or none, which is the name alone; or a single file, with a template per "
        "line or in JSON, as CLIP_benchmark has it, or with prompts of each class, as CuPL has "
        "them. The default is 'a photo of a {}.'")  # fmt: skip
    group.add_argument("--dataset", metavar="NAME",
        help="Which entry of a JSON file is meant that is about several data sets.")  # fmt: skip
    group = parser.add_argument_group("the answers")
    group.add_argument("--top", type=_positive, default=5, metavar="K",
        help="How many classes are shown for an image. The default is %(default)s.")  # fmt: skip
    group.add_argument("--json", action="store_true",
        help="Print a JSON object per image and line. The summary goes to standard "
        "error.")  # fmt: skip
    group.add_argument("--strict", action="store_true",
        help="End at the first image that cannot be read, with exit status 2.")  # fmt: skip
    group.add_argument("--batch-size", type=_positive, default=BATCH_SIZE, metavar="N",
        help="How many images are encoded at once. Answers come as often. The default is "
        "%(default)s.")  # fmt: skip


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
    """A single value is no class, but where the classes are."""
    if len(classes) == 1:
        return classes[0]
    if files := [name for name in classes if name.lower().endswith((".txt", ".json"))]:
        raise ValueError(f"--classes: {files[0]} would be a class; a file must be given alone")
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
        lines.append(f"  nothing to choose between: {answer.num_nearest} classes are the nearest")
    return "\n".join([*lines, ""])


def _summary(
    num_classified: int, skipped: Counter[str], others: Counter[str], prompts: ClassPrompts,
    classifier: ImageClassifier,
) -> str:  # fmt: skip
    line = _counted(num_classified, skipped)
    if others:
        line += f"; {_plural(others.total(), 'file')} in folders ignored: {listed(others)}"
    names = classifier.names
    classes = f"{len(names):,} classes, {prompts.said}"
    if len(prompts.names) > len(names):
        classes = f"{len(names):,} classes of {len(prompts.names):,} names, {prompts.said}"
    scale = f"probabilities at a logit scale of {classifier.ready.logit_scale:.4g}"
    return f"{printable(line)}\n{printable(classes)}; {scale}"


def _counted(num_classified: int, skipped: Counter[str]) -> str:
    line = f"{_plural(num_classified, 'image')} classified"
    return f"{line}, {skipped.total()} skipped: {listed(skipped)}" if skipped else line


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a number of at least 1, got {text!r}")
    return value
