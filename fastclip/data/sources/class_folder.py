"""A folder of labelled images with a subfolder for each class, as ImageNet is laid out."""

import os
from collections import Counter
from collections.abc import Iterator

from fastclip.data.sources.file_marks import mark_of_listing
from fastclip.data.sources.file_names import is_image_name, suffix_of
from fastclip.data.sources.folder_files import list_folder
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import Contents, LabeledSource

MAX_NAMED = 5  # classes in a message


class ClassFolderSource(LabeledSource):
    """Images in `root/<class>/.../`, such as `name.jpg`; the caption of an image is its class.

    The folder is listed once, on construction. `file_names.py` says which files are images, and
    which names are ignored; files that are not images of a class are counted in `skipped`.

    Attributes:
        classes: the names of the folders, sorted (as numbers if all are numbers); the index of a
            class in this list is its label.

    Raises:
        NotADirectoryError: `root` is not a folder.
        OSError: a folder below `root` cannot be listed.
        ValueError: `root` has no folder with images, or one of its folders has no image.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = os.fspath(root)
        found = list_folder(self.root)
        self._names: list[str] = []
        self._skipped: Counter[str] = Counter()
        others: dict[str, Counter[str]] = {name: Counter() for name in found.folders}
        for name in found.files:
            if not is_image_name(name):
                self._skipped[suffix_of(name)] += 1
                if "/" in name:
                    others[_class_of(name)][suffix_of(name)] += 1
            elif "/" not in name:
                self._skipped["image outside the folders of classes"] += 1
            else:
                self._names.append(name)
        if found.others:
            self._skipped["not a regular file"] = len(found.others)
        if not self._names:
            raise ValueError(
                "root must hold a folder of images (jpg, png, ...) for each class, but "
                f"{self.root!r} holds none"
            )
        empty = sorted(set(found.folders) - set(map(_class_of, self._names)))
        if empty:
            raise ValueError(
                f"root must hold images in the folder of each class, but {self.root!r} has none in "
                + _described({name: others[name] for name in empty})
            )
        is_numbered = all(name.isdecimal() for name in found.folders)  # as ImageNet V2 has them
        self.classes = sorted(found.folders, key=int if is_numbered else None)

    def skipped(self) -> dict[str, int]:
        return dict(self._skipped)

    def __len__(self) -> int:
        return len(self._names)

    def contents(self) -> Contents:
        return [("images", mark_of_listing(self.root, self._names))]

    def files(self) -> Iterator[str]:
        return (os.path.join(self.root, name) for name in self._names)

    def load(self, index: int) -> Sample:
        name = self._names[index]
        return Sample(name, os.path.join(self.root, name), _class_of(name))


def _class_of(name: str) -> str:
    return name.split("/", 1)[0]


def _described(empty: dict[str, Counter[str]]) -> str:
    """Name classes, and the kinds of files in their folders."""
    named = [
        f"{name!r} ({', '.join(f'{n} {kind}' for kind, n in kinds.most_common(3)) or 'empty'})"
        for name, kinds in list(empty.items())[:MAX_NAMED]
    ]
    more = len(empty) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
