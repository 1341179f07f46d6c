"""Opens folders that `fastclip embed` wrote, whole or in shards, or that clip-retrieval wrote."""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastclip.data.quoting import quoted, quoted_text, some_of
from fastclip.embeddings.file_groups import (
    FileGroup,
    check_digests,
    groups_of_manifest,
    moments_of_manifest,
)
from fastclip.embeddings.foreign import groups_without_manifest
from fastclip.embeddings.layout import MANIFEST, SHARD, shard_folder
from fastclip.embeddings.manifest import Manifest, read_manifest
from fastclip.embeddings.metadata import Row
from fastclip.embeddings.places import Places
from fastclip.embeddings.side import Side, place_of

NOT_KNOWN = (
    "there is no manifest: it is not known which model made these vectors, and whether they are "
    "unit vectors"
)


class Part(NamedTuple):
    """A folder with a manifest of its own: all of the embeddings, or a shard of them."""

    folder: Path
    manifest: Manifest


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Rows with the vector of an image, of a text, or of both, and with metadata.

    Attributes:
        folder: where the files are.
        parts: the folder with its manifest, or each shard with its own; empty for a folder of
            clip-retrieval.
        groups: the files of each number, in the order of their rows.
        root: the folder that `image_path` is relative to; None if it is not known.
        notes: sentences that say what is not known about the embeddings.
    """

    folder: Path
    parts: tuple[Part, ...]
    groups: tuple[FileGroup, ...]
    root: Path | None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    @property
    def manifest(self) -> Manifest | None:
        """The manifest, or that of the first shard; all shards have the same model and settings."""
        return self.parts[0].manifest if self.parts else None

    @functools.cached_property
    def images(self) -> Side | None:
        """The vectors of images; None if there are none."""
        return self._side("img")

    @functools.cached_property
    def texts(self) -> Side | None:
        """The vectors of texts; None if there are none."""
        return self._side("text")

    @functools.cached_property
    def places(self) -> Places | None:
        """Finds the row of a sample of the source; None if places are not known for all rows."""
        files = [group.places for group in self.groups]
        return None if any(file is None for file in files) else Places(files)

    def metadata(self, numbers: Sequence[int]) -> list[Row]:
        """Return the metadata of some rows, in the order asked for.

        Raises:
            IndexError: there is no such row.
            FileChanged: a file was replaced since it was opened, see `same_file`.
            OSError, ValueError: a file of metadata cannot be read.
        """
        places = place_of(self._stops, np.asarray(numbers, np.int64).reshape(-1))
        found: list[Row] = [{}] * len(places)
        for group in np.unique(places[:, 0]):
            wanted = np.flatnonzero(places[:, 0] == group)
            rows = self.groups[group].rows_of(places[wanted, 1].tolist())
            for place, row in zip(wanted, rows, strict=True):
                found[place] = row
        return found

    def image_file(self, number: int) -> Path:
        """Return the path of a row's image, which is always below `root`.

        Raises:
            ValueError: `root` is not known, the row has no path, or its path leads out of `root`.
        """
        return self.image_of(number, self.metadata([number])[0])

    def image_of(self, number: int, row: Row) -> Path:
        """Do what `image_file` does, for a row whose metadata the caller has."""
        path = row.get("image_path")
        if not isinstance(path, str) or not path or "\0" in path:
            raise ValueError(f"row {number} of {self.folder} has no image file")
        if self.root is None:
            raise ValueError(
                f"the folder of the images of {self.folder} is not known: give it as root"
            )
        normal = os.path.normpath(path)
        if os.path.isabs(normal) or normal.split(os.sep)[0] == os.pardir:
            raise ValueError(f"the image of row {number} is outside of root: {quoted_text(path)}")
        return self.root / normal

    def _side(self, side: str) -> Side | None:
        files = tuple(group.vectors[side] for group in self.groups if side in group.vectors)
        if not files:
            return None
        found = [moments_of_manifest(*part, side) for part in self.parts]
        known = [moments for moments in found if moments is not None]
        return Side(side, files, sum(known[1:], known[0]) if known else None)

    @functools.cached_property
    def _stops(self) -> list[int]:
        return list(accumulate(group.num_rows for group in self.groups))


def open_embeddings(
    folder: str | os.PathLike,
    *,
    verify: bool = False,
    root: str | os.PathLike | None = None,
    with_metadata: bool = True,
) -> Embeddings:
    """Open a folder of embeddings; vectors stay on the disk until they are accessed.

    The folder was written by `fastclip embed`, or holds all shards of such a job (`--shard i/n`),
    whose rows follow each other as in the whole, or was written by clip-retrieval and has no
    manifest: `notes` then say what is not known. The numbers of rows of all files are compared.

    Args:
        folder: the folder.
        verify: read all files, and compare their SHA-256 with the manifest's.
        root: where the images are now, if they have moved.
        with_metadata: with False, a folder with a manifest is opened without its metadata, so that
            the metadata of rows is empty.

    Raises:
        FileNotFoundError: there are no embeddings, or a shard is missing.
        ModuleNotFoundError: metadata in Parquet needs pyarrow.
        OSError: a file cannot be read.
        ValueError: the job is not complete, the numbers of rows disagree, a file is damaged or,
            with `verify`, has changed, shards belong to several jobs, or `verify` is True and there
            is no manifest.

    Example:
        >>> found = open_embeddings("embeddings")
        >>> scores = found.images.rows(range(100)) @ found.texts.rows([3])[0]
        >>> found.metadata([int(scores.argmax())])[0]["image_path"]
        'cats/1.jpg'
    """
    folder = Path(folder)
    given = None if root is None else Path(root)
    parts = _parts(folder)
    if not parts:
        if verify:
            raise ValueError(f"{folder} cannot be verified: there is no manifest")
        return Embeddings(folder, (), tuple(groups_without_manifest(folder)), given, (NOT_KNOWN,))
    for part in parts:
        if not part.manifest.is_complete:
            raise ValueError(
                f"{part.folder} is not complete: {part.manifest.rows:,} rows are written; "
                "`fastclip embed --resume` completes it"
            )
        if verify:
            check_digests(*part)
    groups = tuple(group for part in parts for group in groups_of_manifest(*part, with_metadata))
    recorded = parts[0].manifest.root
    return Embeddings(folder, parts, groups, given or (Path(recorded) if recorded else None))


def _parts(folder: Path) -> tuple[Part, ...]:
    """Return the folder itself, or all its shards, of one job; nothing without a manifest."""
    if (folder / MANIFEST).exists():
        return (Part(folder, read_manifest(folder)),)
    shards = [match for path in _listed(folder) if (match := SHARD.fullmatch(path.name))]
    counts = sorted({int(match[2]) for match in shards})
    if not counts:
        return ()
    if len(counts) > 1:
        raise ValueError(
            f"{folder} has shards of several jobs, in {some_of(counts, 8)} shards each"
        )
    # The shards that exist are counted first: a name may state a billion shards.
    if len(shards) < counts[0]:
        raise FileNotFoundError(f"{folder} has only {len(shards)} of {counts[0]} shards")
    folders = [shard_folder(folder, index, counts[0]) for index in range(counts[0])]
    parts = tuple(Part(path, read_manifest(path)) for path in folders)
    jobs = [_job(part.manifest) for part in parts]
    for part, job in zip(parts, jobs, strict=True):
        for name, value in job.items():
            if value != jobs[0][name]:
                raise ValueError(
                    f"{part.folder} belongs to another job than {parts[0].folder}: its {name} is "
                    f"{quoted(value)}, not {quoted(jobs[0][name])}"
                )
    dims = {part.manifest.dim for part in parts if part.manifest.files}
    if len(dims) > 1:
        raise ValueError(
            f"the shards of {folder} must have vectors of one length, got {some_of(dims, 8)}"
        )
    return parts


def _job(manifest: Manifest) -> dict[str, Any]:
    job = manifest.same_job()
    return job | {"settings": {k: v for k, v in job["settings"].items() if k != "shard"}}


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
