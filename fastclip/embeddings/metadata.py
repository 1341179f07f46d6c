"""Reads and writes metadata of rows: image_path, caption, key and the columns of the sample.

A file of rows is Parquet, which needs pyarrow, or JSON lines, which need no package. Values are
what JSON can hold. In Parquet a column of a file has one type: a type of numbers if all values are
numbers, booleans if all are true or false, and otherwise text, in which other values are written as
JSON. Every file has the first three columns, in this order; `columns.py` decides on the others.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from fastclip.data.quoting import first_line
from fastclip.embeddings.same_file import SameFile
from fastclip.installation import install_command

COLUMNS = ("image_path", "caption", "key")
ROWS_PER_GROUP = 4096  # rows that must be read to read one of them
LARGEST_LINE = 2**24  # bytes of a row in JSON
EXACT = 2**53  # float64 can hold all integers up to this
METADATA, OR_JSONL = "Metadata in Parquet", ", or choose jsonl"
Row = dict[str, Any]


class MetadataFile(Protocol):
    """A file of rows that is open for reading."""

    def __len__(self) -> int: ...

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Return the rows with these numbers within the file, in the order asked for."""

    def blocks(self, size: int) -> Iterator[list[Row]]:
        """Yield all rows in order, at least one and at most `size` at a time."""


def require_format(name: str) -> None:
    """Raise ModuleNotFoundError if metadata of this format cannot be written or read here."""
    if name == "parquet":
        parquet_modules(METADATA, OR_JSONL)


def encoded(rows: Sequence[Row], name: str) -> bytes:
    """Return the content of a file of rows.

    Args:
        name: "parquet" or "jsonl".

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: JSON cannot hold a value, for example NaN.
    """
    columns = list(dict.fromkeys([*COLUMNS, *(column for row in rows for column in row)]))
    if name == "jsonl":
        return b"".join(_line({column: row.get(column) for column in columns}) for row in rows)
    arrow, parquet = parquet_modules(METADATA, OR_JSONL)
    arrays = [_column(arrow, [row.get(column) for row in rows]) for column in columns]
    output = BytesIO()
    table = arrow.Table.from_arrays(arrays, names=columns)
    parquet.write_table(table, output, row_group_size=ROWS_PER_GROUP, compression="snappy")
    return output.getvalue()


def open_metadata(path: Path) -> MetadataFile:
    """Open a file of rows; its suffix says the format.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        OSError: the file cannot be read.
        ValueError: the file does not have that format.
    """
    return _Lines(path) if path.suffix == ".jsonl" else _ParquetRows(path)


class _Lines:
    """A file of JSON lines, with the offset of each line."""

    def __init__(self, path: Path) -> None:
        self._file, self._starts = SameFile(path), [0]
        with self._file.opened() as file:
            while line := file.readline(LARGEST_LINE):
                if not line.endswith(b"\n"):
                    raise ValueError(f"{path}, line {len(self._starts)} is cut or too long")
                self._starts.append(self._starts[-1] + len(line))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        found = []
        with self._file.opened() as file:
            for number in numbers:
                file.seek(self._starts[number])
                found.append(self._row(number, file.read(self._size(number))))
        return found

    def blocks(self, size: int) -> Iterator[list[Row]]:
        for start in range(0, len(self), size):
            yield self.rows(range(start, min(len(self), start + size)))

    def _size(self, number: int) -> int:
        return self._starts[number + 1] - self._starts[number]

    def _row(self, number: int, line: bytes) -> Row:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = first_line(error)
            raise ValueError(f"{self._file.path}, line {number + 1}: not JSON: {reason}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{self._file.path}, line {number + 1}: not a JSON object")
        return row


class _ParquetRows:
    """The row groups of a Parquet file; the last one that was read is kept."""

    def __init__(self, path: Path) -> None:
        self._file = SameFile(path)
        self._kept: tuple[int, Any] = (-1, None)
        with self._opened() as file:
            groups = range(file.num_row_groups)
            sizes = [file.metadata.row_group(group).num_rows for group in groups]
        self._stops = list(accumulate(sizes))

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        return [self._row(number) for number in numbers]

    def blocks(self, size: int) -> Iterator[list[Row]]:
        with self._opened() as file:
            for batch in file.iter_batches(size):
                yield batch.to_pylist()

    def _row(self, number: int) -> Row:
        group = bisect_right(self._stops, number)
        kept = self._kept  # which another thread may replace
        if kept[0] != group:
            with self._opened() as file:
                kept = self._kept = group, file.read_row_group(group)
        start = self._stops[group - 1] if group else 0
        return kept[1].slice(number - start, 1).to_pylist()[0]

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Open the file while it is read."""
        arrow, parquet = parquet_modules(METADATA, OR_JSONL)
        try:
            with self._file.opened() as file:
                yield parquet.ParquetFile(file)
        except arrow.ArrowException as error:
            raise ValueError(
                f"{self._file.path} is not a Parquet file: {first_line(error)}"
            ) from None


def _line(row: Row) -> bytes:
    line = json.dumps(row, allow_nan=False).encode() + b"\n"
    if len(line) > LARGEST_LINE:
        raise ValueError(f"a row of metadata must have at most {LARGEST_LINE:,} bytes of JSON")
    return line


class ColumnType:
    """Finds the Parquet type of a column from its values.

    Args:
        text: writes a value as text, for a column of text with other values; by default as JSON.
    """

    def __init__(self, text: Callable[[Any], str] | None = None) -> None:
        self._text = text or _json_text
        self._types: set[type] = set()
        self._is_exact = True

    def add(self, values: Iterable[Any]) -> None:
        """Add values of the column; None is a value of every type."""
        for value in values:
            if value is not None:
                self._types.add(type(value))
                self._is_exact &= type(value) is not int or abs(value) < EXACT

    def arrow_type(self, arrow: Any) -> Any:
        """Return the pyarrow type."""
        if self._types == {bool}:
            return arrow.bool_()
        if self._types and self._types <= {int, float} and self._is_exact:
            return arrow.int64() if self._types == {int} else arrow.float64()
        return arrow.string()

    def array(self, arrow: Any, values: Sequence[Any]) -> Any:
        """Return values, which must have been added, as an array of that type."""
        kind = self.arrow_type(arrow)
        if kind == arrow.string():
            values = [None if value is None else self._as_text(value) for value in values]
        return arrow.array(values, kind)

    def _as_text(self, value: Any) -> str:
        return without_surrogates(value if type(value) is str else self._text(value))


def _column(arrow: Any, values: list[Any]) -> Any:
    kind = ColumnType()
    kind.add(values)
    return kind.array(arrow, values)


def without_surrogates(text: str) -> str:
    """Return a text that UTF-8 can hold: lone surrogates, which JSON may have, as `\\ud800`."""
    return text.encode(errors="backslashreplace").decode()


def _json_text(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def parquet_modules(what: str, instead: str = "") -> tuple[Any, Any]:
    """Return `pyarrow` and `pyarrow.parquet`.

    Args:
        what: the subject of the error, which needs them.
        instead: what can be done without them; the end of the error.

    Raises:
        ModuleNotFoundError: pyarrow is not installed; the message says how to install it.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} needs pyarrow: {install_command('embed')}{instead}"
        ) from error
    return pyarrow, parquet
