"""A folder of images, each with its caption in a text file of the same name."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from fastclip.data.regular_file import open_regular
from fastclip.data.sources.file_marks import mark_of_listing
from fastclip.data.sources.file_names import Suffixes, suffix_of
from fastclip.data.sources.folder_files import list_folder
from fastclip.data.sources.sample_groups import group_members
from fastclip.data.sources.samples import (
    MAX_CAPTION_BYTES,
    NO_CAPTION,
    BadSample,
    Sample,
    even_alone,
    with_caption_of,
)
from fastclip.data.sources.source import Contents, IndexedSource


class FolderSource(IndexedSource):
    """Pairs of `name.jpg` and `name.txt`, in `root` and all folders below, sorted.

    `sample_groups.py` says which files are one sample, and `file_names.py` which are images. The
    folder is listed once, on construction; files that appear later are not seen. An image without a
    caption is a bad sample, and so is a caption without an image; other files are counted in
    `skipped`.

    Args:
        root: a folder.
        image_key, caption_key: suffixes, see `file_names.Suffixes`.
        lone_images: accept images without a caption, or with an empty one, as samples.

    Raises:
        NotADirectoryError: `root` is not a folder.
        OSError: a folder below `root` cannot be listed.
        ValueError: the folder has no image, or a key is not a suffix.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        image_key: str | None = None,
        caption_key: str | None = None,
        lone_images: bool = False,
    ) -> None:
        self.root = os.fspath(root)
        self._lone_images = lone_images
        suffixes = Suffixes(image_key, caption_key)
        found = list_folder(self.root)
        self._samples: list[tuple[str | None, str | None]] = []  # names of images and captions
        self._skipped = Counter({"not a regular file": len(found.others)} if found.others else {})
        for group in group_members(map(_File, found.files), suffixes):
            if group.key is None:
                self._skipped[suffix_of(group.members[0].name)] += 1
            else:
                pair = (group.image, group.caption)
                self._samples.append(tuple(file and file.name for file in pair))
        if all(image is None for image, _ in self._samples):
            raise ValueError(
                f"root holds no image ({_some(suffixes)}): {_what(self.root, found.files)}"
            )

    def skipped(self) -> dict[str, int]:
        return dict(self._skipped)

    def __len__(self) -> int:
        return len(self._samples)

    def contents(self) -> Contents:
        """Return the mark of all images and captions, in the order of the samples."""
        return [("images and captions", mark_of_listing(self.root, self._names()))]

    def files(self) -> Iterator[str]:
        return (os.path.join(self.root, name) for name in self._names())

    def load(self, index: int) -> Sample | BadSample:
        image, caption = self._samples[index]
        if image is None:
            return BadSample(caption, "no image")
        found = self._load_pair(image, caption)
        return even_alone(found, os.path.join(self.root, image)) if self._lone_images else found

    def _names(self) -> list[str]:
        return [name for sample in self._samples for name in sample if name is not None]

    def _load_pair(self, image: str, caption: str | None) -> Sample | BadSample:
        if caption is None:
            return BadSample(image, NO_CAPTION)
        try:
            with open_regular(os.path.join(self.root, caption)) as file:
                contents = file.read(MAX_CAPTION_BYTES + 1)
        except FileNotFoundError:
            return BadSample(image, NO_CAPTION)
        except OSError as error:
            return BadSample(image, "unreadable caption", str(error))
        return with_caption_of(image, os.path.join(self.root, image), caption, contents)


class _File(NamedTuple):
    name: str


def _some(suffixes: Suffixes) -> str:
    return ", ".join(suffixes.images[:4]) + (", ..." if len(suffixes.images) > 4 else "")


def _what(root: str, files: list[str]) -> str:
    """Return the folder and what it has instead of images."""
    shards = [name for name in files if name.lower().endswith(".tar")]
    if shards:
        depths = sorted({name.count("/") for name in shards})
        patterns = "::".join(os.path.join(root, *["*"] * depth, "*.tar") for depth in depths)
        num = len(shards)
        return f"{root!r}; it or the folders below have {num} .tar files: name them {patterns!r}"
    kinds = Counter(map(suffix_of, files)).most_common(5)
    return repr(root) + "".join(f", {count} {kind}" for kind, count in kinds)
