"""Embeddings as one table, for engines that search what outgrows a machine.

A row has its number as `id`, its vector as `vector`, a list of D float32, and its metadata; of that
a column that is called as one of these two is `metadata_NAME`. A column has one type in the whole
table: that of its values if they are all numbers, or all true or false, and otherwise text. Rows
are read twice, once for these types, and written block by block: memory holds a block.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastclip.atomic_file import CannotWrite, replacing, temporary_beside, writing
from fastclip.data.quoting import quoted_text
from fastclip.embeddings.metadata import ColumnType, parquet_modules
from fastclip.embeddings.reader import Embeddings
from fastclip.embeddings.storage import Stored, to_float32
from fastclip.installation import install_command
from fastclip.search.corpus import lengths_of, rows_of_block, side_of

ID, VECTOR = "id", "vector"
Progress = Callable[[int, int], None]


class Exported(NamedTuple):
    """Attributes:
    rows: that were written: all of them.
    num_unusable: of those, vectors that are not finite or longer than 2^60, written as they are.
    columns: names, in order.
    """

    rows: int
    num_unusable: int
    columns: tuple[str, ...]


def export_parquet(
    embeddings: Embeddings,
    path: str | os.PathLike,
    side: str,
    *,
    progress: Progress = lambda done, total: None,
) -> Exported:
    """Write one side of embeddings as a Parquet file, whole or not at all.

    Args:
        path: where nothing may be yet; its folder is made if there is none.
        side: "img" or "text".
        progress: called with how many rows are written, and how many there are.

    Raises:
        CannotWrite: the disk or the folder refuses.
        FileExistsError: there is something at `path`.
        ModuleNotFoundError: pyarrow is not installed.
        OSError, ValueError: a file of the embeddings cannot be read, or there is no such side.

    Example:
        >>> export_parquet(open_embeddings("embeddings"), "images.parquet", "img").rows
        1203
    """
    path = Path(path)
    require_new(path)
    arrow, parquet = parquet_modules("A table")
    table = _Table(arrow, embeddings, side, progress)
    _make_folder_of(path)
    with replacing(path) as file, parquet.ParquetWriter(file, table.schema) as writer:
        for batch in table.batches():
            writer.write_batch(batch)
    return table.exported()


def export_lance(
    embeddings: Embeddings,
    path: str | os.PathLike,
    side: str,
    *,
    progress: Progress = lambda done, total: None,
) -> Exported:
    """Write one side of embeddings as a table of Lance, whole or not at all.

    Args:
        path: a folder that is not there yet, NAME.lance: LanceDB, connected to the folder that it
            is in, opens it as the table NAME.
        side, progress: as in `export_parquet`.

    Raises:
        As `export_parquet`, pylance for pyarrow; ValueError also if `path` does not end in .lance.

    Example:
        >>> export_lance(open_embeddings("embeddings"), "tables/images.lance", "img").rows
        1203
        >>> lancedb.connect("tables").open_table("images").count_rows()
        1203
    """
    path = Path(path)
    require_new(path)
    if path.suffix != ".lance":
        raise ValueError(f"{path} must end in .lance: LanceDB finds its tables by that")
    lance = _lance()
    arrow, _ = parquet_modules("A table")
    table = _Table(arrow, embeddings, side, progress)
    temporary = temporary_beside(path)
    _make_folder_of(path)
    reader = arrow.RecordBatchReader.from_batches(table.schema, table.batches())
    try:
        lance.write_dataset(reader, str(temporary))
        with writing(path):
            os.rename(temporary, path)
    except OSError as error:
        # Lance says of every error that it is one of the system.
        if table.failure is not None:
            raise table.failure from None
        raise error if isinstance(error, CannotWrite) else CannotWrite(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return table.exported()


class _Table:
    """The batches of one side of embeddings.

    Attributes:
        schema: of pyarrow.
        failure: what ended `batches`, if something did.
    """

    def __init__(self, arrow: Any, embeddings: Embeddings, side: str, progress: Progress) -> None:
        self._arrow, self._embeddings, self._side = arrow, embeddings, side
        self._vectors, self._progress = side_of(embeddings, side), progress
        self._size = rows_of_block(self._vectors.files, None)
        self._columns = self._types_of_columns()
        self._names = _names(list(self._columns))
        self.failure: Exception | None = None
        self._num_rows = self._num_unusable = 0
        vector = arrow.list_(arrow.float32(), self._vectors.dim)
        fields = [(ID, arrow.int64()), (VECTOR, vector)]
        kinds = [kind.arrow_type(arrow) for kind in self._columns.values()]
        self.schema = arrow.schema([*fields, *zip(self._names, kinds, strict=True)])

    def batches(self) -> Iterator[Any]:
        """Yield all rows in order."""
        try:
            for group in self._embeddings.groups:
                values, scales = group.vectors[self._side]
                start = 0
                for rows in group.blocks_of_rows(self._size):
                    part = slice(start, start + len(rows))
                    own = None if scales is None else scales[part]
                    yield self._batch(to_float32(Stored(values[part], own)), rows)
                    start += len(rows)
        except Exception as error:
            self.failure = error
            raise

    def exported(self) -> Exported:
        return Exported(self._num_rows, self._num_unusable, tuple(self.schema.names))

    def _batch(self, vectors: np.ndarray, rows: list[dict[str, Any]]) -> Any:
        arrow, first = self._arrow, self._num_rows
        self._num_rows += len(rows)
        self._num_unusable += int(np.isnan(lengths_of(vectors)).sum())
        flat = arrow.array(vectors.reshape(-1))
        arrays = [
            arrow.array(np.arange(first, self._num_rows)),
            arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        ]
        for name, kind in self._columns.items():
            arrays.append(kind.array(arrow, [row.get(name) for row in rows]))
        self._progress(self._num_rows, len(self._vectors))
        return arrow.record_batch(arrays, schema=self.schema)

    def _types_of_columns(self) -> dict[str, ColumnType]:
        columns: dict[str, ColumnType] = {}
        for group in self._embeddings.groups:
            for rows in group.blocks_of_rows(self._size):
                for name in dict.fromkeys(name for row in rows for name in row):
                    kind = columns.setdefault(name, ColumnType(_any_text))
                    kind.add(row.get(name) for row in rows)
        return columns


def require_new(path: Path) -> None:
    """Raise FileExistsError if there is something at `path`."""
    if os.path.lexists(path):
        raise FileExistsError(f"{quoted_text(str(path))} is there already: remove it first")


def require_parquet() -> None:
    """Raise ModuleNotFoundError unless a table in Parquet can be written."""
    parquet_modules("A table")


def require_lance() -> None:
    """Raise ModuleNotFoundError unless a table of Lance can be written."""
    parquet_modules("A table")
    _lance()


def _lance() -> Any:
    try:
        import lance
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"A Lance table needs pylance: {install_command('lance')}"
        ) from error
    return lance


def _make_folder_of(path: Path) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def _names(columns: list[str]) -> list[str]:
    """What columns of metadata are called in the table, beside its own."""
    taken = [ID, VECTOR]
    for name in columns:
        while name in taken:
            name = f"metadata_{name}"
        taken.append(name)
    return taken[2:]


def _any_text(value: Any) -> str:
    """JSON of what JSON has, though it be nan, and otherwise what Python prints: of a date, say."""
    if isinstance(value, dict | list | bool | int | float):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
