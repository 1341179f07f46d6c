"""A folder of pictures, each with its caption in a text file of the same name."""

import os

from fastclip.data.sources.samples import (
    MAX_CAPTION_BYTES,
    BadSample,
    Sample,
    is_picture_name,
    with_caption,
)
from fastclip.data.sources.source import IndexedSource


class FolderSource(IndexedSource):
    """`name.jpg` (jpeg, png, webp) beside `name.txt`, in `root` and all folders below, sorted.

    The folder is listed once, here; files that come later are not seen. Names that begin with a
    dot are passed over. A picture without a caption is a bad sample, and so is a caption without a
    picture.

    Raises:
        NotADirectoryError: `root` is not a folder.
        ValueError: there is no picture in it.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = os.fspath(root)
        if not os.path.isdir(self.root):
            raise NotADirectoryError(f"root must be a folder, got {self.root!r}")
        names = sorted(files_below(self.root))
        pictures = [name for name in names if is_picture_name(name)]
        if not pictures:
            raise ValueError(f"root holds no picture (jpg, jpeg, png, webp): {self.root!r}")
        stems = {os.path.splitext(name)[0] for name in pictures}
        alone = [n for n in names if n.endswith(".txt") and os.path.splitext(n)[0] not in stems]
        self._names = sorted(pictures + alone)

    def __len__(self) -> int:
        return len(self._names)

    def load(self, index: int) -> Sample | BadSample:
        name = self._names[index]
        if not is_picture_name(name):
            return BadSample(name, "no image")
        try:
            with open(os.path.join(self.root, os.path.splitext(name)[0] + ".txt"), "rb") as file:
                caption = file.read(MAX_CAPTION_BYTES + 1)
        except FileNotFoundError:
            return BadSample(name, "no caption")
        except OSError as error:
            return BadSample(name, "unreadable caption", str(error))
        return with_caption(name, os.path.join(self.root, name), caption)


def files_below(root: str) -> list[str]:
    """Paths relative to `root`, without those that have a name with a leading dot in them."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = os.path.relpath(folder, root)
        visible = [name for name in files if not name.startswith(".")]
        found += visible if prefix == "." else [os.path.join(prefix, name) for name in visible]
    return found
