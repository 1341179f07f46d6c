"""Which classes a labelled set has, what is said of them, and whether that fits its labels."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastclip.data.quoting import some_of
from fastclip.evaluate.class_prompts import ClassPrompts, Templates, read_class_prompts
from fastclip.evaluate.prompts import read_class_names
from fastclip.evaluate.sets.labelled import WORDNET, LabelledSet
from fastclip.evaluate.zero_shot_task import Labels

IMAGENET, NUM_IMAGENET = "imagenet", 1000
NAMED = 5  # classes in a message


@dataclass(frozen=True)
class ClassList:
    """The classes among which images are classified.

    Attributes:
        prompts: names and prompts of C classes.
        subset: numbers of those that images may belong to, or None for all.
        is_own_numbering: labels are places in the subset, and not among all classes.
    """

    prompts: ClassPrompts
    subset: tuple[int, ...] | None = None
    is_own_numbering: bool = False

    def labels(self, labels: Tensor) -> Tensor:
        """Return (N,) labels of the data in the numbering of all classes.

        Raises:
            ValueError: a label is out of its range.
        """
        num = len(self.subset) if self.is_own_numbering else len(self.prompts.names)
        largest = int(labels.max())
        if largest >= num:
            raise ValueError(
                f"the classes do not fit the data: there are {num}, and an image has the label "
                f"{largest}"
            )
        return torch.tensor(self.subset)[labels] if self.is_own_numbering else labels


def class_list(
    data: LabelledSet,
    classes: Sequence[str] | str | os.PathLike | None = None,
    templates: Templates | None = None,
    subset: Sequence[str] | str | os.PathLike | None = None,
) -> ClassList:
    """Return the classes of a set.

    Args:
        classes, templates: see `read_class_prompts`; by default what comes with the data, and "a
            photo of a {}." where no template does. Of a file about several data sets the entry of
            `data.name` is taken.
        subset: names of the classes that images may belong to, or a file with one on each line.
            Where the data have as many classes as it, their labels are places in it.

    Raises:
        OSError, ValueError: see `read_class_prompts`; or the data do not say what their classes
            are called; or the classes do not fit them.
    """
    if classes is None:
        classes = _names_of(data)
    prompts = _prompts(classes, data.templates if templates is None else templates, data.name)
    num = len(data.labels.classes) if isinstance(data.labels, Labels) else None
    columns = None if subset is None else _columns(subset, prompts.names)
    if num is None or num == len(prompts.names):
        return ClassList(prompts, columns)
    if columns is not None and num == len(columns):
        return ClassList(prompts, columns, is_own_numbering=True)
    of_subset = "" if columns is None else f", of which {len(columns)} in the subset"
    raise ValueError(
        f"the classes do not fit the data: {data.name} has {num} "
        f"({some_of(data.labels.classes, NAMED)}), and there are names of "
        f"{len(prompts.names)}{of_subset} ({some_of(prompts.names, NAMED)})"
    )


def _names_of(data: LabelledSet) -> Sequence[str] | str:
    if data.class_names is not None:
        return data.class_names
    folders = data.labels.classes if isinstance(data.labels, Labels) else ()
    if len(folders) == NUM_IMAGENET and all(map(WORDNET.fullmatch, folders)):
        return IMAGENET
    raise ValueError(
        f"{data.name} does not say what its classes are called"
        + (f": {folders[0]} is a number of WordNet" if folders else ", but has their numbers alone")
        + ". Give their names as classes"
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
        except ValueError as other:
            # Of the two, the one that speaks of the file: not that a name is of no use.
            raise (error if "take it from" in str(other) else other) from None


def _columns(subset: Sequence[str] | str | os.PathLike, names: Sequence[str]) -> tuple[int, ...]:
    wanted = read_class_names(subset) if isinstance(subset, str | os.PathLike) else list(subset)
    if unknown := [name for name in wanted if name not in names]:
        raise ValueError(f"the subset has {some_of(unknown, NAMED)}, which is none of the classes")
    twice = [name for name in dict.fromkeys(wanted) if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"the subset has {some_of(twice, NAMED)}, which several classes are called"
        )
    if repeated := [name for name in dict.fromkeys(wanted) if wanted.count(name) > 1]:
        raise ValueError(f"the subset has {some_of(repeated, NAMED)} more than once")
    return tuple(names.index(name) for name in wanted)
