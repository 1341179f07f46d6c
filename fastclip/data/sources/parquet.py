"""Tables in Parquet with a column of image paths; pyarrow is only imported to open one."""

import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

from fastclip.data.quoting import first_line
from fastclip.data.regular_file import open_regular
from fastclip.data.sources.file_marks import mark_of_table
from fastclip.data.sources.named_images import image_paths, sample_of_row
from fastclip.data.sources.no_such_column import NoSuchColumn
from fastclip.data.sources.sample_columns import as_columns
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import END, Contents, Entry, Part, Source
from fastclip.data.sources.table_conventions import folder_of
from fastclip.installation import install_command

LOOKED_AT = 64  # images that decide which folder all paths are relative to
ROWS_AT_ONCE = 1024  # rows that are converted to Python values at a time


class ParquetSource(Source):
    """The rows of a Parquet file, one part for each of its row groups.

    Paths of images are absolute, or relative to the folder of the file or to the working directory.
    The first image that exists in one of the two folders decides for all rows.

    Args:
        image_key, caption_key: names of columns; `caption_key` is None if there are no captions.
        lone_images: accept images without a caption as samples.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        OSError: the file cannot be read.
        ValueError: the file is not a Parquet file, has no row, or lacks a column.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        image_key: str,
        caption_key: str | None = None,
        lone_images: bool = False,
    ) -> None:
        self.path = os.fspath(path)
        self._image_key, self._caption_key = image_key, caption_key
        self._lone_images = lone_images
        names = columns_of_parquet(self.path)
        for argument, name in (("image_key", image_key), ("caption_key", caption_key)):
            if name is not None and name not in names:
                raise NoSuchColumn(argument, self.path, name, names)
        with open_regular(self.path) as file:
            metadata = _parquet().ParquetFile(file).metadata
            sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self._groups = {start: i for i, start in enumerate(starts) if sizes[i]}
        self._parts = [
            Part(self.path, s, s + n, n) for s, n in zip(starts, sizes, strict=True) if n
        ]
        if not self._parts:
            raise ValueError(f"path must be a table with rows, but {self.path!r} has none")
        self._folder = ""
        found = (entry.load() for entry in self.read(self._parts[0]))
        images = (sample.image for sample in found if isinstance(sample, Sample))
        self._folder = folder_of(islice(images, LOOKED_AT), self.path)

    def parts(self) -> list[Part]:
        return self._parts

    def contents(self) -> Contents:
        """Return the mark of the table; the images that it names do not count."""
        columns = [("images", self._image_key), ("captions", str(self._caption_key))]
        return [("table", mark_of_table(self.path)), *columns]

    def files(self) -> Iterator[str]:
        yield self.path
        yield from image_paths(self)

    def read(self, part: Part, position: int | None = None) -> Iterator[Entry]:
        start = part.start if position is None else position
        if start >= part.stop:
            return
        try:
            with open_regular(self.path) as file:
                table = _parquet().ParquetFile(file).read_row_group(self._groups[part.start])
        except (OSError, *_errors()) as error:
            bad = BadSample(self.path, "unreadable table", first_line(error), part.stop - start)
            yield Entry(start, END, lambda: bad)
            return
        rows = _Rows(table)
        for number in range(start, part.stop):
            load = partial(self._load, rows, number - part.start, number)
            yield Entry(number, number + 1, load)

    def _load(self, rows: "_Rows", place: int, number: int) -> Sample | BadSample:
        key = f"{os.path.basename(self.path)}, row {number}"
        try:
            row = dict(rows[place])
        except (UnicodeError, *_errors()) as error:
            return BadSample(key, "unreadable row", first_line(error))
        name = row.pop(self._image_key)
        if not isinstance(name, str) or not name:
            return BadSample(key, "no image")
        caption = "" if self._caption_key is None else row.pop(self._caption_key)
        found = sample_of_row(key, self._folder, name, caption, self._lone_images)
        if isinstance(found, BadSample):
            return found
        columns = as_columns(row)
        return found._replace(columns=columns.values, left_out=columns.left_out)


class _Rows:
    """The rows of a table as Python values; each read also converts the rows that follow."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._start, self._found = 0, []
        self._alone_until = 0

    def __getitem__(self, place: int) -> dict[str, Any]:
        if not 0 <= place - self._start < len(self._found):
            self._start, self._found = place, self._read(place)
        return self._found[place - self._start]

    def _read(self, place: int) -> list[dict[str, Any]]:
        if place >= self._alone_until:
            try:
                return self._table.slice(place, ROWS_AT_ONCE).to_pylist()
            except (UnicodeError, *_errors()):
                self._alone_until = place + ROWS_AT_ONCE  # one of these is unreadable
        return self._table.slice(place, 1).to_pylist()


def columns_of_parquet(path: str) -> list[str]:
    """Return the names of the columns of a Parquet file; raises as `ParquetSource`."""
    parquet = _parquet()
    with open_regular(path) as file:
        try:
            return parquet.ParquetFile(file).schema_arrow.names
        except _errors() as error:
            raise ValueError(f"{path!r} is not a Parquet file: {first_line(error)}") from None


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"A table in Parquet needs pyarrow: {install_command('embed')}"
        ) from error
    return parquet


def _errors() -> tuple[type[Exception], ...]:
    from pyarrow import ArrowException

    return (ArrowException,)
