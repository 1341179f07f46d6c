"""Groups of files with one number: vectors of each side and metadata, with the same rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastclip.data.quoting import quoted
from fastclip.embeddings.array_file import digest_of, open_array
from fastclip.embeddings.layout import METADATA, PLACE, SKIPPED, statistics_of, vectors_of
from fastclip.embeddings.manifest import Manifest
from fastclip.embeddings.metadata import MetadataFile, Row, open_metadata
from fastclip.embeddings.moments import Moments
from fastclip.embeddings.places import open_places
from fastclip.embeddings.side import open_stored
from fastclip.embeddings.storage import DTYPES, Stored


@dataclass(frozen=True, eq=False)
class FileGroup:
    """The files of one number, opened together.

    Attributes:
        name: the name of the group in errors.
        vectors: the vectors of each side, mapped into memory.
        metadata: None if there is none, or it is not wanted.
        places: (n, 2) int64, the `Place` of the sample of each row; None if it is not known.

    Raises:
        ValueError: the files have different numbers of rows.
    """

    name: str
    vectors: Mapping[str, Stored]
    metadata: MetadataFile | None
    places: np.ndarray | None = None

    def __post_init__(self) -> None:
        counts = {vectors_of(side): len(part.values) for side, part in self.vectors.items()}
        if self.metadata is not None:
            counts[METADATA] = len(self.metadata)
        if self.places is not None:
            counts[PLACE] = len(self.places)
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count:,} in {kind}" for kind, count in counts.items())
            raise ValueError(f"{self.name}: the numbers of rows disagree: {told}")

    @property
    def num_rows(self) -> int:
        return next(len(part.values) for part in self.vectors.values())

    def rows_of(self, numbers: Sequence[int]) -> list[Row]:
        """Return the metadata of rows; an empty dictionary for each if there is no metadata."""
        if self.metadata is None:
            return [{} for _ in numbers]
        return self.metadata.rows(numbers)

    def blocks_of_rows(self, size: int) -> Iterator[list[Row]]:
        """Yield the metadata of all rows in order, at most `size` at a time; see `rows_of`."""
        if self.metadata is not None:
            yield from self.metadata.blocks(size)
            return
        for start in range(0, self.num_rows, size):
            yield [{} for _ in range(start, min(self.num_rows, start + size))]


def groups_of_manifest(
    folder: Path, manifest: Manifest, with_metadata: bool = True
) -> list[FileGroup]:
    """Open the files that a manifest names.

    Args:
        with_metadata: with False, files of metadata are not opened and groups have none.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is not what the manifest says.
    """
    groups = []
    for number, record in enumerate(manifest.files):
        vectors = {side: open_stored(folder, side, number) for side in manifest.sides}
        metadata = places = None
        if with_metadata:
            metadata = open_metadata(manifest.path_of(folder, METADATA, number))
        if manifest.has_places:
            places = open_places(manifest.path_of(folder, PLACE, number))
        group = FileGroup(f"{folder}, files {number}", vectors, metadata, places)
        if group.num_rows != record.rows:
            raise ValueError(
                f"{group.name} have {group.num_rows:,} rows, but {record.rows:,} in the manifest"
            )
        for stored in vectors.values():
            if stored.values.dtype != DTYPES[manifest.store]:
                raise ValueError(
                    f"{group.name}: vectors are {stored.values.dtype}, but {manifest.store} in the "
                    "manifest"
                )
            if stored.values.shape[1] != manifest.dim:
                dim = stored.values.shape[1]
                raise ValueError(
                    f"{group.name}: vectors have {dim} entries, but {manifest.dim} in the manifest"
                )
        groups.append(group)
    return groups


def check_digests(folder: Path, manifest: Manifest) -> None:
    """Read all files that a manifest names, and the list of skipped inputs; compare digests.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is not what was written.
    """
    expected = {
        manifest.path_of(folder, kind, number): digest
        for number, record in enumerate(manifest.files)
        for kind, digest in record.sha256.items()
    }
    for side, digest in (manifest.statistics or {}).items():
        expected[statistics_of(folder, side)] = digest
    if manifest.skipped.size:
        expected[folder / SKIPPED] = manifest.skipped.sha256
    for path, digest in expected.items():
        if digest_of(path) != digest:
            raise ValueError(f"{path} is not what was written: its SHA-256 is not the manifest's")


def moments_of_manifest(folder: Path, manifest: Manifest, side: str) -> Moments | None:
    """Return the moments of a side from their file in the folder; None if there are no vectors.

    Raises:
        OSError, ValueError: the file cannot be read, or does not belong to such vectors.
    """
    if not manifest.files:
        return None
    path = statistics_of(folder, side)
    sums = np.array(open_array(path, 2, (np.float64,)))
    if sums.shape != (manifest.dim + 1, manifest.dim):
        raise ValueError(f"{path} has shape {quoted(sums.shape)}, which does not fit its vectors")
    return Moments(manifest.rows, sums)
