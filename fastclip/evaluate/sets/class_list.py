"""The classes of a labelled set with their prompts, matched with the labels of the set."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastclip.data.quoting import some_of
from fastclip.evaluate.class_order import order_of
from fastclip.evaluate.class_prompts import ClassPrompts, Templates, read_class_prompts
from fastclip.evaluate.imagenet import IMAGENET_CLASSNAMES, IMAGENET_WNIDS
from fastclip.evaluate.json_prompts import UnusedDataSet
from fastclip.evaluate.prompts import read_class_names
from fastclip.evaluate.sets.labelled import WORDNET, LabelledSet
from fastclip.evaluate.zero_shot_task import Labels

IMAGENET = "imagenet"
NAMED = 5  # classes in a message


@dataclass(frozen=True)
class ClassList:
    """The classes into which images are classified.

    Attributes:
        prompts: names and prompts of C classes.
        subset: the numbers of the classes that images may belong to, or None for all.
        numbers: for each label of the data the number of its class; None if they are the same.
        said: a sentence saying that names were matched with labels by order alone; else None.
    """

    prompts: ClassPrompts
    subset: tuple[int, ...] | None = None
    numbers: tuple[int, ...] | None = None
    said: str | None = None

    def labels(self, labels: Tensor) -> Tensor:
        """Convert (N,) labels of the data to numbers of classes.

        Raises:
            ValueError: a label is out of range.
        """
        num = len(self.prompts.names if self.numbers is None else self.numbers)
        largest = int(labels.max())
        if largest >= num:
            raise ValueError(
                f"the classes do not fit the data: there are {num} classes, but an image has the "
                f"label {largest} (counted from 0)"
            )
        return labels if self.numbers is None else torch.tensor(self.numbers)[labels]


def class_list(
    data: LabelledSet,
    classes: Sequence[str] | str | os.PathLike | None = None,
    templates: Templates | None = None,
    subset: Sequence[str] | str | os.PathLike | None = None,
) -> ClassList:
    """Return the classes of a set, matched with its labels.

    Args:
        data: the labelled set.
        classes, templates: see `read_class_prompts`. By default the names and templates of the data
            are used, or "a photo of a {}." if the data have no templates. From a file about several
            data sets the entry of `data.name` is taken.
        subset: names of the classes that images may belong to, or a text file with one per line. If
            the data have as many classes as the subset, the subset lists the classes of the data.

    Returns:
        The classes. Labels are matched with classes by name (see `order_of`), or by WordNet id for
        folders that are named by ImageNet's WordNet ids. If the data have no names, labels are the
        numbers of the classes.

    Raises:
        OSError, ValueError: see `read_class_prompts`; or `classes` is None and the data do not name
            their classes; or the classes do not fit the data, or their order contradicts a name.
    """
    if classes is None:
        classes = _names_of(data)
    prompts = _prompts(classes, data.templates if templates is None else templates, data.name)
    columns = None if subset is None else _columns(subset, prompts.names)
    own = _own_names(data)
    if own is None:
        return ClassList(prompts, columns)
    if prompts.names == IMAGENET_CLASSNAMES and any(map(WORDNET.fullmatch, own)):
        numbers = _numbers_in_imagenet(own, data.name)
        _require_subset(numbers, columns, prompts.names, data.name)
        return ClassList(prompts, columns, numbers)
    is_of_subset = columns is not None and len(own) == len(columns) != len(prompts.names)
    targets = columns if is_of_subset else range(len(prompts.names))
    if len(own) != len(targets) and isinstance(data.labels, Labels):
        of_subset = "" if columns is None else f", {len(columns)} of them in the subset"
        raise ValueError(
            f"the classes do not fit the data: {data.name} has {len(own)} classes "
            f"({some_of(own, NAMED)}), but {len(prompts.names)} names were given{of_subset} "
            f"({some_of(prompts.names, NAMED)})"
        )
    places, said = order_of(own, [prompts.names[i] for i in targets], data.name)
    if len(own) != len(targets):  # the data's own names are not as many as the classes
        return ClassList(prompts, columns, said=said)
    return ClassList(prompts, columns, tuple(targets[place] for place in places), said)


def _own_names(data: LabelledSet) -> Sequence[str] | None:
    """Return the data's own names of its classes, perhaps WordNet ids, or None if it has none."""
    if data.class_names is None and isinstance(data.labels, Labels):
        return data.labels.classes
    return data.class_names


def _numbers_in_imagenet(folders: Sequence[str], dataset: str) -> tuple[int, ...]:
    if unknown := [name for name in folders if name not in IMAGENET_WNIDS]:
        raise ValueError(
            f"{dataset} has the folder {some_of(unknown, NAMED)}, which is not among the 1,000 "
            "classes of ImageNet"
        )
    return tuple(map(IMAGENET_WNIDS.index, folders))


def _require_subset(
    numbers: Sequence[int], columns: Sequence[int] | None, names: Sequence[str], dataset: str
) -> None:
    if columns is not None and (lost := [names[i] for i in numbers if i not in columns]):
        raise ValueError(f"the subset of classes lacks {some_of(lost, NAMED)}, which {dataset} has")


def _names_of(data: LabelledSet) -> Sequence[str] | str:
    if data.class_names is not None:
        return data.class_names
    folders = data.labels.classes if isinstance(data.labels, Labels) else ()
    if set(folders) == set(IMAGENET_WNIDS):
        return IMAGENET
    raise ValueError(
        f"{data.name} does not name its classes: "
        + (f"its folder {folders[0]} is a WordNet id" if folders else "it has only their numbers")
        + ". Give the names as classes (--classes)"
    )


def _prompts(
    classes: Sequence[str] | str | os.PathLike, templates: Templates | None, dataset: str
) -> ClassPrompts:
    places = [place for place in (classes, templates) if isinstance(place, str | os.PathLike)]
    if not any(os.fspath(place).lower().endswith(".json") for place in places):
        return read_class_prompts(classes, templates)
    try:
        return read_class_prompts(classes, templates)
    except ValueError as error:
        try:
            return read_class_prompts(classes, templates, dataset)
        except UnusedDataSet:
            raise error from None  # the files do not need the name, so the first error counts


def _columns(subset: Sequence[str] | str | os.PathLike, names: Sequence[str]) -> tuple[int, ...]:
    wanted = read_class_names(subset) if isinstance(subset, str | os.PathLike) else list(subset)
    if unknown := [name for name in wanted if name not in names]:
        raise ValueError(
            f"the subset has {some_of(unknown, NAMED)}, which is not among the classes"
        )
    twice = [name for name in dict.fromkeys(wanted) if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"the subset has {some_of(twice, NAMED)}, which is the name of several classes"
        )
    if repeated := [name for name in dict.fromkeys(wanted) if wanted.count(name) > 1]:
        raise ValueError(f"the subset has {some_of(repeated, NAMED)} more than once")
    return tuple(names.index(name) for name in wanted)
