"""A folder of labelled pictures, a folder below it for each class, as ImageNet is laid out."""

import os

from fastclip.data.sources.folder import files_below
from fastclip.data.sources.samples import Sample, is_picture_name
from fastclip.data.sources.source import IndexedSource


class ClassFolderSource(IndexedSource):
    """`root/<class>/.../name.jpg` (jpeg, png, webp); the caption of a picture is its class.

    The folder is listed once, here. Names that begin with a dot are passed over.

    Attributes:
        classes: names of the folders that hold pictures, sorted, by number if all are numbers;
            their places are the labels.

    Raises:
        NotADirectoryError: `root` is not a folder.
        ValueError: there is no picture in a folder below it.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = os.fspath(root)
        if not os.path.isdir(self.root):
            raise NotADirectoryError(f"root must be a folder, got {self.root!r}")
        names = sorted(name for name in files_below(self.root) if is_picture_name(name))
        self._names = [name for name in names if os.sep in name]
        if not self._names:
            raise ValueError(
                f"root must hold a folder of pictures (jpg, jpeg, png, webp) per class: "
                f"{self.root!r} holds none"
            )
        found = {_class_of(name) for name in self._names}
        is_numbered = all(name.isdigit() for name in found)  # as ImageNet V2 has them
        self.classes = sorted(found, key=int if is_numbered else None)

    def __len__(self) -> int:
        return len(self._names)

    def load(self, index: int) -> Sample:
        name = self._names[index]
        return Sample(name, os.path.join(self.root, name), _class_of(name))


def _class_of(name: str) -> str:
    return name.split(os.sep, 1)[0]
