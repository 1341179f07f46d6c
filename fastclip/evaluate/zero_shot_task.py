"""A zero-shot classification task: labelled images, the names of their classes, and templates."""

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
    """A tokenizer for captions that are classes: returns the index of each among `classes`."""

    classes: tuple[str, ...]

    def __call__(self, captions: list[str]) -> Tensor:
        """Return (B, 1) int64."""
        return torch.tensor([[self.classes.index(caption)] for caption in captions])


@dataclass(frozen=True)
class ZeroShotTask:
    """Labelled images, the names of their C classes, and the templates of the prompts.

    Attributes:
        name: the prefix of the task's metrics.
        source: labelled images.
        class_names: C names in the order of `source.classes`, at least two of them different.
        templates: prompts with "{}" where the name goes.

    Raises:
        ValueError: there are not as many names as classes, all names are equal, or a template is
            not valid.
    """

    name: str
    source: LabeledSource
    class_names: Sequence[str]
    templates: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.class_names) != len(self.source.classes):
            raise ValueError(
                f"{self.name}: there must be one class name per folder of images, got "
                f"{len(self.class_names)} names for {len(self.source.classes)} folders"
            )
        if len(set(self.class_names)) < 2:
            raise ValueError(
                f"{self.name}: there must be at least two different class names to choose from; "
                f"got only {self.class_names[0]!r}, for the folders {self.source.classes}"
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
    """Open a task: a folder with one folder of images per class, or the built-in "digits".

    Args:
        spec: the folder, or "digits".
        classes_file: a text file with a class name per line, in the order of the sorted folders;
            or in any order if the names are the folders' names (see `class_order.py`). By default
            the folders' names are taken, with spaces for underscores.
        templates_file: a text file with a template per line; by default "a photo of a {}."

    Raises:
        OSError: there is no such folder or file.
        ValueError: there is no image or only one class, there are not as many names as folders,
            the order of the names contradicts a folder's name, or a template is not valid.
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
    """Open ImageNet's validation images, a folder per WordNet id, with CLIP's names and templates.

    ImageNet V2 has a folder per class number instead, perhaps inside a folder `imagenetv2-...` of
    `root`.

    Raises:
        OSError, ValueError: `root` is not a folder of 1,000 folders of images that are named by
            ImageNet's WordNet ids or by the numbers of its classes.
    """
    inside = [path for path in Path(root).glob("imagenetv2-*") if path.is_dir()]
    source = ClassFolderSource(inside[0] if len(inside) == 1 else root)
    task = ZeroShotTask(name, source, *imagenet_classes())
    is_numbered = all(folder.isdecimal() for folder in source.classes)
    others = [folder for folder in source.classes if folder not in IMAGENET_WNIDS]
    if others and not is_numbered:
        raise ValueError(
            f"{os.fspath(root)} has the folders {some_of(others, NAMED)}, which are not classes of "
            "ImageNet; evaluate them as another task (--zeroshot-data), with a file of their class "
            "names (--zeroshot-classes)"
        )
    return task
