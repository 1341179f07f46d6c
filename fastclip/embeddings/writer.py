"""Writes a folder of embeddings, file after file, so that a killed job loses one file at most."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastclip.data.quoting import quoted
from fastclip.data.sources.samples import BadSample
from fastclip.embeddings.array_file import digest_of, write_array, write_bytes
from fastclip.embeddings.columns import arranged
from fastclip.embeddings.layout import (
    KINDS,
    MANIFEST,
    METADATA,
    MOST_FILES,
    PLACE,
    scales_of,
    statistics_of,
    vectors_of,
)
from fastclip.embeddings.lock import locked
from fastclip.embeddings.manifest import FileRecord, Manifest, read_manifest, write_manifest
from fastclip.embeddings.metadata import Row, encoded, require_format
from fastclip.embeddings.moments import Moments
from fastclip.embeddings.places import are_growing, open_places
from fastclip.embeddings.remains import remove_remains
from fastclip.embeddings.side import moments_of, open_stored
from fastclip.embeddings.skip_list import SkipList
from fastclip.embeddings.storage import to_stored


class EmbeddingsWriter:
    """Writes a folder of embeddings; its context holds the lock of the folder.

    A file of rows is complete when the manifest names it, which is when `end_file` returns. A job
    that was killed goes on after the last complete file; `manifest` has the `position` of that.

    Args:
        folder: the folder, which is made if missing.
        manifest: the description of the files, with `files` still empty.
        resume: go on where a job with the same model, source and settings stopped; begin if there
            is no such job.
        tell: called with a sentence if the file system cannot flush a directory.

    Attributes:
        manifest: the manifest so far. If it is complete, there is nothing left to write.
        skipped: the list of inputs that are not embedded.
        num_gathered: values of metadata so far in the column `OTHER_COLUMNS`; see `columns.py`.

    Raises:
        CannotRead, CannotWrite: the disk or the folder cannot be read or written.
        ModuleNotFoundError: metadata in Parquet needs pyarrow.
        ValueError: another process writes to the folder, the folder has embeddings and `resume` is
            False, they belong to another job, or one of their files has changed.

    Example: write existing features in files of 1,000 rows.
        >>> head = Manifest(ModelRecord.of(ready), None, "", ("img",), "f32", "jsonl", 1000)
        >>> with EmbeddingsWriter(Path("features"), head) as writer:
        ...     for part, keys in batches_of_at_most_1000:
        ...         writer.add({"img": part}, [{"key": key} for key in keys])
        ...         writer.end_file()
        ...     writer.finish()
        >>> open_embeddings("features").images.rows([0])
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        resume: bool = False,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self._wanted, self._resume, self._tell = Path(folder), manifest, resume, tell
        require_format(manifest.metadata)
        self._open = ExitStack()
        self.num_gathered = 0

    def __enter__(self) -> "EmbeddingsWriter":
        with self._open:
            self._open.enter_context(locked(self.folder))
            self.manifest = self._begin()
            self.skipped = SkipList(self.folder, self.manifest.skipped)
            self._moments: dict[str, Moments] = {}
            self._rows: list[Row] = []
            self._stored: dict[str, np.ndarray] = {}
            self._last_place = np.empty((0, 2), np.int64)  # of the last row, if there is one
            self._take_up()
            self._open = self._open.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def room(self) -> int:
        """How many more rows fit into the current file."""
        return self.manifest.rows_per_file - len(self._rows)

    def add(
        self,
        vectors: Mapping[str, np.ndarray],
        rows: Sequence[Row],
        places: np.ndarray | None = None,
    ) -> None:
        """Add rows to the current file.

        Args:
            vectors: for each side, "img" or "text", (n, D) float32.
            rows: n dictionaries of metadata.
            places: (n, 2) int64, for each row the `Place` of its sample in the source, in growing
                order; only, and always, for a manifest that has places.

        Raises:
            ValueError: the sides, or their numbers of rows or columns, do not fit; there is no
                room; places do not grow from row to row; or a vector has an entry that is not
                finite.
        """
        if set(vectors) != set(self.manifest.sides):
            raise ValueError(f"vectors must be of {self.manifest.sides}, got {sorted(vectors)}")
        if len(rows) > self.room:
            raise ValueError(f"the file has room for {self.room} rows, got {len(rows)}")
        dims = {self.manifest.dim} - {None} | {part.shape[1] for part in vectors.values()}
        if len(dims) != 1 or any(len(part) != len(rows) for part in vectors.values()):
            shapes = {side: part.shape for side, part in vectors.items()}
            raise ValueError(f"vectors must be {len(rows)} of one length, got {shapes}")
        self._require_places(places, len(rows))
        for part in vectors.values():
            if not (finite := np.isfinite(part).all(axis=1)).all():
                key = rows[int(np.argmin(finite))].get("key")
                raise ValueError(f"the vector of {quoted(key)} is not finite")
        self.manifest = replace(self.manifest, dim=dims.pop())
        for side, part in vectors.items():
            stored = to_stored(part, self.manifest.store)
            self._fill(vectors_of(side), stored.values)
            self._fill(scales_of(side), stored.scales)
        self._fill(PLACE, places)
        if places is not None:
            self._last_place = places[-1:]
        self._rows += rows

    def skip(self, bad: BadSample) -> None:
        """Put an input on the list of inputs that are not embedded."""
        self.skipped.add(bad)

    def end_file(self, position: Sequence[int] | None = None) -> None:
        """Write the rows that were added, and then the manifest.

        Args:
            position: the position in the source after these rows and the skipped inputs.

        Raises:
            CannotWrite: the disk or the folder cannot be written to; complete files do not change.
            ValueError: there are too many files.
        """
        number = len(self.manifest.files)
        files = self.manifest.files
        if self._rows:
            if number == MOST_FILES:
                raise ValueError(
                    f"there would be more than {MOST_FILES:,} files: choose more rows per file"
                )
            files += (FileRecord(len(self._rows), self._write_file(number)),)
            self._count(number)
        position = None if position is None else list(position)
        found = replace(self.manifest, files=files, skipped=self.skipped.write(), position=position)
        write_manifest(self.folder, found, self._tell)
        self.manifest, self._rows, self._stored = found, [], {}

    def finish(self) -> None:
        """Write what is left and the sums of all vectors; the folder is then complete."""
        self.end_file(self.manifest.position)
        digests = {
            side: write_array(statistics_of(self.folder, side), moments.sums, self._tell)
            for side, moments in self._moments.items()
        }
        self.manifest = replace(self.manifest, statistics=digests, position=None)
        write_manifest(self.folder, self.manifest, self._tell)

    def _begin(self) -> Manifest:
        path = self.folder / MANIFEST
        if not path.exists():
            if any((self.folder / kind).exists() for kind in KINDS):
                raise ValueError(
                    f"{self.folder} has embeddings that fastclip did not write: choose another "
                    "folder"
                )
            remove_remains(self.folder, self._wanted)
            write_manifest(self.folder, self._wanted, self._tell)
            return self._wanted
        if not self._resume:
            raise ValueError(
                f"{self.folder} has embeddings already: go on with them with --resume, or choose "
                "another folder"
            )
        found = read_manifest(self.folder)
        own, wanted = found.same_job(), self._wanted.same_job()
        for name in own | wanted:
            if own.get(name) != wanted.get(name):
                raise ValueError(
                    f"{self.folder} cannot be resumed: its {name} is {quoted(own.get(name))}, not "
                    f"{quoted(wanted.get(name))}"
                )
        remove_remains(self.folder, found)
        return found

    def _require_places(self, places: np.ndarray | None, num_rows: int) -> None:
        wanted = (num_rows, 2) if self.manifest.has_places else None
        shape = None if places is None else places.shape
        if shape != wanted:
            told = "two numbers for each row" if self.manifest.has_places else None
            raise ValueError(f"places must be {told}, got {shape}")
        if places is not None and not are_growing(np.concatenate([self._last_place, places])):
            raise ValueError("places must grow from row to row, in the order of the source")

    def _fill(self, kind: str, part: np.ndarray | None) -> None:
        """Copy into an array for a whole file; the system only gives memory as it is written."""
        if part is None:
            return
        if kind not in self._stored:
            shape = (self.manifest.rows_per_file, *part.shape[1:])
            self._stored[kind] = np.empty(shape, part.dtype)
        start = len(self._rows)
        self._stored[kind][start : start + len(part)] = part

    def _path(self, kind: str, number: int) -> Path:
        return self.manifest.path_of(self.folder, kind, number)

    def _write_file(self, number: int) -> dict[str, str]:
        """Return the digests of the files of a number, by kind."""
        num = len(self._rows)
        digests = {
            kind: write_array(self._path(kind, number), whole[:num], self._tell)
            for kind, whole in self._stored.items()
        }
        rows, num_gathered = arranged(self._rows)
        self.num_gathered += num_gathered
        content = encoded(rows, self.manifest.metadata)
        return digests | {
            METADATA: write_bytes(self._path(METADATA, number), [content], self._tell)
        }

    def _take_up(self) -> None:
        """Read all complete files once: check that they are unchanged, and sum their vectors."""
        for number, file in enumerate(self.manifest.files):
            for kind, digest in file.sha256.items():
                path = self._path(kind, number)
                if not path.exists() or digest_of(path) != digest:
                    raise ValueError(
                        f"{path} is not what was written to it: embed into a new folder"
                    )
            self._count(number)
            if self.manifest.has_places:
                self._last_place = np.array(open_places(self._path(PLACE, number))[-1:])

    def _count(self, number: int) -> None:
        """Add the vectors of a file to the moments, as they are stored."""
        for side in self.manifest.sides:
            moments = moments_of(open_stored(self.folder, side, number))
            before = self._moments.get(side)
            self._moments[side] = moments if before is None else before + moments
