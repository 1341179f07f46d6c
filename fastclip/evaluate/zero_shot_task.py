"""What is classified zero-shot: labelled images, names of the classes, prompts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fastclip.data.built_in import LABELED
from fastclip.data.quoting import some_of
from fastclip.data.sources.class_folder import ClassFolderSource
from fastclip.data.sources.source import LabeledSource
from fastclip.evaluate.class_order import order_of
from fastclip.evaluate.imagenet import IMAGENET_WNIDS, imagenet_classes
from fastclip.evaluate.prompts import (
    DEFAULT_TEMPLATES,
    check_template,
    read_class_names,
    read_templates,
)

NAMED = 5  # folders in a message


@dataclass(frozen=True)
class Labels:
    """Takes the place of a tokenizer where captions are classes: their places among `classes`."""

    classes: tuple[str, ...]

    def __call__(self, captions: list[str]) -> Tensor:
        """Return (B, 1) int64."""
        return torch.tensor([[self.classes.index(caption)] for caption in captions])


@dataclass(frozen=True)
class ZeroShotTask:
    """Attributes:
    name: what its metrics begin with.
    source: labelled images.
    class_names: C, in the order of `source.classes`; two distinct ones at least.
    templates: prompts with "{}" where the name goes.

    Raises:
        ValueError: see above, or a template that is none.
    """

    name: str
    source: LabeledSource
    class_names: Sequence[str]
    templates: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.class_names) != len(self.source.classes):
            raise ValueError(
                f"class names must be as many as the folders of images: got "
                f"{len(self.class_names)} names for {len(self.source.classes)} folders"
            )
        if len(set(self.class_names)) < 2:
            raise ValueError(
                f"{self.name}: classes must have two names at least, or every image is right; got "
                f"{self.class_names[0]!r} alone, of the folders {self.source.classes}"
            )
        for template in self.templates:
            check_template(template, f"{self.name}: ")

    @property
    def labels(self) -> Labels:
        return Labels(tuple(self.source.classes))


def open_task(
    spec: str | os.PathLike,
    classes_file: str | os.PathLike | None = None,
    templates_file: str | os.PathLike | None = None,
) -> ZeroShotTask:
    """Open the task of a folder with a folder per class, or of "digits", which is built in.

    Args:
        classes_file: text with a class name per line, in the order of the sorted folders; or in
            any order, if these are the folders' names (see `class_order.py`). By default they
            are, with spaces for underscores.
        templates_file: text with a prompt per line; by default "a photo of a {}."

    Raises:
        OSError: there is no such folder or file.
        ValueError: there is no image, one class alone, not a name for every folder, an order of
            names that contradicts one, or a template that is none.
    """
    built_in = None if os.path.exists(spec) else LABELED.get(os.fspath(spec))
    if built_in is not None:
        source, templates = built_in.open(), built_in.prompts
        names = source.classes
    else:
        source, templates = ClassFolderSource(spec), DEFAULT_TEMPLATES
        names = [name.replace("_", " ") for name in source.classes]
    if classes_file is not None:
        given = read_class_names(classes_file)
        places = order_of(names, given, os.fspath(spec)).places
        names = [given[place] for place in places] if len(given) == len(names) else given
    if templates_file is not None:
        templates = read_templates(templates_file)
    return ZeroShotTask("zeroshot-val", source, names, templates)


def open_imagenet(root: str | os.PathLike, name: str = "imagenet-zeroshot-val") -> ZeroShotTask:
    """Open ImageNet's validation images, a folder per WordNet id; names and prompts are CLIP's.

    ImageNet V2 has a folder per number of a class, perhaps in a folder `imagenetv2-...` of `root`.

    Raises:
        OSError, ValueError: `root` is not a folder of 1,000 folders of images, which are called by
            ImageNet's numbers of WordNet or by the numbers of its classes.
    """
    inside = [path for path in Path(root).glob("imagenetv2-*") if path.is_dir()]
    source = ClassFolderSource(inside[0] if len(inside) == 1 else root)
    task = ZeroShotTask(name, source, *imagenet_classes())
    is_numbered = all(folder.isdecimal() for folder in source.classes)
    others = [folder for folder in source.classes if folder not in IMAGENET_WNIDS]
    if others and not is_numbered:
        raise ValueError(
            f"{os.fspath(root)} has the folders {some_of(others, NAMED)}, which are no classes of "
            "ImageNet: give them as the data of a task, with a file of their names"
        )
    return task
