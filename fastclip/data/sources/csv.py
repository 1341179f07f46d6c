"""Tables of image files and captions, with open_clip's column names: `filepath`, `title`."""

import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import BinaryIO

from fastclip.data.regular_file import open_regular
from fastclip.data.sources.file_marks import mark_of_table
from fastclip.data.sources.file_names import is_image_name
from fastclip.data.sources.named_images import image_paths, sample_of_row
from fastclip.data.sources.no_such_column import NoSuchColumn
from fastclip.data.sources.records import (
    MAX_RECORD_BYTES,
    Fields,
    Record,
    is_well_quoted,
    parse,
    split_records,
)
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import END, SAMPLES_PER_PART, Contents, Entry, Part, Source
from fastclip.data.sources.table_conventions import (
    NUM_BYTES_LOOKED_AT,
    find_separator,
    folder_of,
    literal_separator,
    objection_to,
)

BYTE_ORDER_MARK = "\ufeff"


class CsvSource(Source):
    """The rows of a text file in UTF-8, whose first row names the columns.

    Paths of images are absolute, or relative to the folder of the file, or, as in open_clip, to the
    working directory. The first image of the table that exists in one of the two folders decides
    for all rows. A row is a bad sample if it has another number of fields than the header, a quote
    that is not closed, bytes that are not UTF-8, a web address for an image, or no caption. Empty
    lines are ignored. The file is read once on construction, to find out how it quotes
    (`records.py`) and where its rows are.

    Args:
        path: the path of the file.
        separator: what separates fields; a backslash and a t mean a tab, as a shell passes "\\t".
            With None, it is found in the header, see `find_separator`.
        image_key, caption_key: names of columns.
        lone_images: accept images without a caption as samples; `caption_key` may be None.
        columns: give samples the fields of the other columns.

    Attributes:
        separator: the separator in use.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
        ValueError: the file is empty or not text in UTF-8, a column is missing, there is no row,
            `separator` is empty, a quote or a pattern, or a relative path names different images in
            the two folders.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        separator: str | None = None,
        image_key: str = "filepath",
        caption_key: str | None = "title",
        lone_images: bool = False,
        columns: bool = False,
    ) -> None:
        self._lone_images, self._has_columns = lone_images, columns
        self._columns_read = [
            ("column of images", image_key),
            ("column of captions", str(caption_key)),
        ]
        self.path = os.fspath(path)
        with open_regular(self.path) as file:
            if objection := objection_to(file.read(NUM_BYTES_LOOKED_AT)):
                raise ValueError(f"path must be a table in UTF-8, but {self.path!r} {objection}")
            self._is_guessed = separator is None
            if separator is None:
                separator = find_separator(_first_line(file), {image_key, str(caption_key)})
            self.separator = separator = literal_separator(separator)
            header = next(split_records(file, 0, separator, lambda *_: True), None)
            if header is None:
                raise ValueError(f"path must be a table with a header, but {self.path!r} is empty")
            text = header.raw.decode(errors="replace").removeprefix(BYTE_ORDER_MARK)
            self._names = names = parse(text, separator).values
            self._num_columns = len(names)
            self._image_column = self._column("image_key", image_key, names)
            self._caption_column = (
                None
                if caption_key is None and lone_images
                else self._column("caption_key", caption_key, names)
            )
            self._is_well_quoted = is_well_quoted(file, header.end, separator, self._num_columns)
            records = split_records(file, header.end, separator, self._ends_before)
            self._parts = list(self._find_parts(records))
        if not self._parts:
            raise ValueError(f"path must be a table with rows, but {self.path!r} has only a header")
        self._folder = ""  # paths as they stand in the table
        samples = (entry.load() for entry in self.read(self._parts[0]))
        names = [sample.image for sample in samples if isinstance(sample, Sample)]
        self._folder = folder_of(names, self.path)

    def parts(self) -> list[Part]:
        return self._parts

    def contents(self) -> Contents:
        """Return the mark of the table; the images that it names do not count."""
        table = [("table", mark_of_table(self.path)), ("separator", repr(self.separator))]
        return table + self._columns_read

    def files(self) -> Iterator[str]:
        yield self.path
        yield from image_paths(self)

    def read(self, part: Part, position: int | None = None) -> Iterator[Entry]:
        start = part.start if position is None else position
        if start >= part.stop:
            return
        try:
            with open_regular(self.path) as file:
                for record in split_records(file, start, self.separator, self._ends_before):
                    yield Entry(record.start, record.end, partial(self._load, record))
                    start = record.end
                    if start >= part.stop:
                        return
        except OSError as error:
            bad = BadSample(self.path, "unreadable table", str(error))
            yield Entry(start, END, lambda: bad)

    def _load(self, record: Record) -> Sample | BadSample:
        key = f"{os.path.basename(self.path)}, byte {record.start}"
        if len(record.raw) >= MAX_RECORD_BYTES:
            return BadSample(key, "row is too long", f"more than {MAX_RECORD_BYTES} bytes")
        try:
            fields = parse(record.raw.decode(), self.separator)
        except UnicodeError as error:
            return BadSample(key, "row is not UTF-8", str(error))
        if fields.is_open:
            return BadSample(key, "quote is not closed")
        if len(fields.values) != self._num_columns:
            return BadSample(
                key,
                "wrong number of fields",
                f"{len(fields.values)} instead of {self._num_columns}",
            )
        name = fields.values[self._image_column].strip()
        if not name:
            return BadSample(key, "no image")
        column = self._caption_column
        caption = "" if column is None else fields.values[column]
        found = sample_of_row(key, self._folder, name, caption, self._lone_images)
        if not self._has_columns or isinstance(found, BadSample):
            return found
        read = (self._image_column, column)
        fields_left = enumerate(zip(self._names, fields.values, strict=True))
        return found._replace(columns=dict(pair for i, pair in fields_left if i not in read))

    def _ends_before(self, first: list[str], line: list[str], record: Fields) -> bool:
        """Return whether a record ends before `line`; see `split_records`.

        It does if the two together are no row, or if the line is a row with an image of its own.
        """
        if self._is_well_quoted:
            return False
        if len(record.values) > self._num_columns:
            return True
        image = self._image(line)
        if image is None:
            return False
        # The record may have its image from the line, unless what precedes the line is a row too.
        is_behind_row = self._image(first) is not None
        return record.is_open or is_behind_row or self._image(record.values) != image

    def _image(self, values: list[str]) -> str | None:
        """Return the image's name in a row, or None if the values are not a row."""
        if len(values) != self._num_columns:
            return None
        name = values[self._image_column].strip()
        return name if is_image_name(name) else None

    def _find_parts(self, records: Iterator[Record]) -> Iterator[Part]:
        while rows := list(islice(records, SAMPLES_PER_PART)):
            yield Part(self.path, rows[0].start, rows[-1].end, len(rows))

    def _column(self, argument: str, name: str, columns: list[str]) -> int:
        if name not in columns:
            hint = ""
            if self._is_guessed:
                hint = (
                    f"; fastclip guessed that {self.separator!r} separates the fields: if not, "
                    "give the separator"
                )
            elif len(columns) == 1:
                hint = f"; is {self.separator!r} the separator?"
            raise NoSuchColumn(argument, self.path, name, columns, hint)
        return columns.index(name)


def _first_line(file: BinaryIO) -> str:
    file.seek(0)
    line = file.readline(MAX_RECORD_BYTES).decode(errors="replace")
    return line.removeprefix(BYTE_ORDER_MARK).rstrip("\r\n")
