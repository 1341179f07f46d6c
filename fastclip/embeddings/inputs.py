"""Opens what a user wants to embed, and makes the metadata of each of its samples."""

import hashlib
import os
import sys
from dataclasses import dataclass
from functools import cached_property

from fastclip.data.quoting import quoted_text
from fastclip.data.regular_file import open_regular
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.image_list import ImageListSource
from fastclip.data.sources.lines import LineSource
from fastclip.data.sources.named_images import image_paths
from fastclip.data.sources.opening import TABLE_SUFFIXES, find_type, open_source
from fastclip.data.sources.parquet import ParquetSource, columns_of_parquet
from fastclip.data.sources.records import parse
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import Contents, IndexedSource, Part, Source, stretches
from fastclip.data.sources.table_conventions import find_separator, literal_separator
from fastclip.data.sources.tar_shards import TarSource
from fastclip.embeddings.metadata import COLUMNS, Row

# Names of columns, in order of preference.
IMAGE_COLUMNS = ("filepath", "image_path", "path", "file_name", "filename", "image", "file")
CAPTION_COLUMNS = ("title", "caption", "text")
LIST_SUFFIXES = (".txt", ".lst", ".list")
LOOKED_AT = 64  # samples that are looked at to find out if there are captions


@dataclass(frozen=True)
class Input:
    """Samples to embed.

    Attributes:
        name: the user's name for them.
        source: where they come from; images without captions are samples.
        root: the folder that all images, or all shards, are in; "" if they are not files, or their
            folder is not known.
        has_images: False for lines of text.
    """

    name: str
    source: Source
    root: str = ""
    has_images: bool = True

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the contents of the source; see `Source.contents`."""
        return digest_of_contents(self.source, self.source.contents())

    @cached_property
    def has_captions(self) -> bool:
        """Whether one of the first samples has a caption."""
        entries = (entry for part in self.source.parts() for entry in self.source.read(part))
        for number, entry in enumerate(entries):
            found = entry.load()
            if isinstance(found, Sample) and found.caption:
                return True
            if number + 1 >= LOOKED_AT:
                break
        return False

    def parts(self, shard: int, num_shards: int) -> list[Part]:
        """Return what one of several jobs reads: a range of samples, or of parts if not numbered.

        The ranges of all jobs, one after the other, make the whole source.
        """
        if isinstance(self.source, IndexedSource):
            start, stop = _range(len(self.source), shard, num_shards)
            return [Part(type(self.source).__name__, start, stop, stop - start)]
        parts = self.source.parts()
        start, stop = _range(len(parts), shard, num_shards)
        return parts[start:stop]

    def stretches(self, shard: int, num_shards: int) -> list[int]:
        """Return the stretch, in the whole source, of each part that `parts` returns."""
        if isinstance(self.source, IndexedSource):
            return [0]
        found = stretches(self.source.parts())
        start, stop = _range(len(found), shard, num_shards)
        return found[start:stop]

    def row(self, sample: Sample) -> Row | BadSample:
        """Return the metadata of a sample, or a bad sample if its image's path cannot be stored."""
        key, path = sample.key, None
        if isinstance(sample.image, str) and self.root:
            path = os.path.relpath(os.path.abspath(sample.image), self.root)
        elif self.root:  # in a shard
            key = path = os.path.relpath(os.path.abspath(sample.key), self.root)
        if path is not None:
            if path.split(os.sep)[0] == os.pardir:
                return BadSample(sample.key, "image is outside of the root", self.root)
            if not _is_utf8(path):
                return BadSample(sample.key, "path is not UTF-8")
        known = {"image_path": path, "caption": sample.caption or None, "key": key}
        others = sample.columns or {}
        return known | {name: value for name, value in others.items() if name not in COLUMNS}


def digest_of_contents(source: Source, contents: Contents) -> str:
    """Return the SHA-256 by which a manifest recognises the data of its rows.

    Args:
        contents: the result of `source.contents()`.
    """
    told = [type(source).__name__, contents]
    return hashlib.sha256(repr(told).encode(errors="backslashreplace")).hexdigest()


def open_input(
    spec: str | os.PathLike | Source,
    *,
    image_key: str | None = None,
    caption_key: str | None = None,
    separator: str | None = None,
) -> Input:
    """Open what shall be embedded.

    Args:
        spec: a folder of images, tar shards, a table (.csv, .tsv, .parquet), a list of images
            (.txt), built-in data such as "digits", a data set that `save_to_disk` wrote, "-" for
            lines of text on standard input, or a source.
        image_key, caption_key: columns of a table, or suffixes of files; see `open_source`. By
            default the first column with a name in `IMAGE_COLUMNS` and in `CAPTION_COLUMNS`.
        separator: the separator of a table; by default it is found in the header.

    Raises:
        ModuleNotFoundError: a package that `spec` needs is not installed.
        OSError: there is no such file or folder, or it cannot be read.
        ValueError: `spec` is of no known kind, or is empty; see the sources.
    """
    if isinstance(spec, Source):
        return Input(type(spec).__name__, spec)
    name = os.fspath(spec)
    kind = _kind(name)
    if separator is not None and kind != "csv":
        raise ValueError(
            f"separator must be None except for .csv and .tsv files, got {separator!r} for "
            f"{quoted_text(name)}"
        )
    if kind in ("-", "list") and (image_key or caption_key):
        raise ValueError(
            f"image_key and caption_key (--image-key, --caption-key) must be None, because "
            f"{quoted_text(name)} has neither columns nor suffixes"
        )
    if kind == "-":
        return Input("standard input", LineSource(sys.stdin.buffer), has_images=False)
    if kind == "list":
        source: Source = ImageListSource(name)
        return Input(name, source, _root(source))
    if kind == "parquet":
        columns = _columns(name, columns_of_parquet(name), image_key, caption_key)
        source = ParquetSource(name, *columns, lone_images=True)
        return Input(name, source, _root(source))
    if kind == "csv":
        return _table(name, image_key, caption_key, separator)
    if kind == "folder":
        source = FolderSource(name, image_key, caption_key, lone_images=True)
        return Input(name, source, os.path.abspath(name))
    if kind == "webdataset":
        source = TarSource(name, image_key, caption_key, lone_images=True, columns=True)
        folders = {os.path.dirname(os.path.abspath(part.name)) for part in source.parts()}
        return Input(name, source, os.path.commonpath(folders))
    return Input(name, open_source(name, kind, image_key=image_key, caption_key=caption_key))


def _kind(name: str) -> str:
    if name == "-":
        return "-"
    for kind, suffixes in (("list", LIST_SUFFIXES), ("parquet", (".parquet",))):
        if name.lower().endswith(suffixes) and not os.path.isdir(name):
            return kind
    try:
        return find_type(name)
    except ValueError:
        raise ValueError(
            f"{quoted_text(name)} cannot be embedded: it must be a folder of images, .tar shards, "
            f"a table ({', '.join(TABLE_SUFFIXES)}, .parquet) or a list of images (.txt)"
        ) from None
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file or folder {quoted_text(name)}") from None


def _table(
    name: str, image_key: str | None, caption_key: str | None, separator: str | None
) -> Input:
    with open_regular(name) as file:
        header = file.readline(2**20).decode(errors="replace").removeprefix("\ufeff")
    header = header.rstrip("\r\n")
    if separator is None:
        asked = {image_key, caption_key} - {None}
        separator = find_separator(header, {*IMAGE_COLUMNS, *CAPTION_COLUMNS, *asked})
    names = parse(header, literal_separator(separator)).values
    columns = _columns(name, names, image_key, caption_key)
    source = CsvSource(name, separator, *columns, lone_images=True, columns=True)
    return Input(name, source, _root(source))


def _columns(
    table: str, names: list[str], image_key: str | None, caption_key: str | None
) -> tuple[str, str | None]:
    known = [name for name in IMAGE_COLUMNS if name in names]
    if image_key is None and not known:
        raise ValueError(
            f"{table!r} has no column of image paths with a known name "
            f"({', '.join(IMAGE_COLUMNS)}): name the column with image_key (--image-key)"
        )
    captions = [name for name in CAPTION_COLUMNS if name in names]
    return image_key or known[0], caption_key or (captions[0] if captions else None)


def _root(source: Source) -> str:
    """Return the deepest folder that holds all images; this reads the names of all of them."""
    folders: set[str] = set()
    for path in image_paths(source):
        folders.add(os.path.dirname(os.path.abspath(path)))
        if len(folders) > 1000:
            folders = {os.path.commonpath(folders)}
    return os.path.commonpath(folders) if folders else os.path.abspath(os.curdir)


def _range(length: int, shard: int, num_shards: int) -> tuple[int, int]:
    return length * shard // num_shards, length * (shard + 1) // num_shards


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeError:
        return False
    return True
