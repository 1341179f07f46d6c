"""`embeddings.json`: what a folder of embeddings holds, and with which model, source and settings.

It is written again after every file and names complete files only, so that it does not have what a
killed process had begun. It has the number of rows and the SHA-256 of each file; the place of a
file follows from its number, so that a manifest needs no paths. Its only path is `root`, where the
images were.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fastclip.data.json_file import read_json_object
from fastclip.data.limits import LARGEST_JSON
from fastclip.data.loading.bad_samples import BadSamples
from fastclip.data.quoting import first_line, quoted
from fastclip.embeddings.array_file import write_bytes
from fastclip.embeddings.layout import (
    MANIFEST,
    METADATA,
    METADATA_FORMATS,
    PLACE,
    SIDES,
    file_of,
    scales_of,
    vectors_of,
)
from fastclip.embeddings.manifest_fields import is_sha256, record, require, require_digests
from fastclip.embeddings.storage import DTYPES
from fastclip.models.inference import InferenceModel

FORMAT, VERSION = "fastclip embeddings", 2
# Versions that can no longer be read, with the reason.
FORMER = {1: "which does not record how a model computes with its weights: embed the data again"}


class ManifestError(ValueError):
    """A manifest cannot be read or does not fit; the message names the file."""


@dataclass(frozen=True)
class ModelRecord:
    """The model that made the vectors.

    Attributes:
        name: the user's name for the model.
        weights, preprocess, tokenizer, configuration: SHA-256 digests; see
            `fastclip.models.digests`.
        preprocess_cfg: how images were prepared.
        precision: the precision in which the towers computed.
        logit_scale: the factor of cosines in logits.
        pretrained: the user's name for the weights, or "".
    """

    name: str
    weights: str
    preprocess: str
    tokenizer: str
    configuration: str
    preprocess_cfg: dict[str, Any]
    precision: str
    logit_scale: float
    pretrained: str = ""

    @classmethod
    def of(cls, ready: InferenceModel) -> "ModelRecord":
        """Return the record of a model that was opened for inference."""
        cfg = json.loads(json.dumps(ready.preprocess_cfg))
        return cls(
            _findable(ready.name), *ready.digests, cfg, ready.precision.name, ready.logit_scale,
            _findable(ready.pretrained or ""),
        )  # fmt: skip

    def objection_to(self, ready: InferenceModel) -> str | None:
        """Return how a model differs from this one; None if it makes the same vectors."""
        own = (self.weights, self.preprocess, self.tokenizer, self.configuration)
        names = (
            "other weights", "another preparation of images", "another tokenizer",
            "another configuration",
        )  # fmt: skip
        pairs = zip(names, own, ready.digests, strict=True)
        wrong = [name for name, mine, others in pairs if mine != others]
        if not wrong:
            return None
        of = quoted(self.name)
        if self.precision != ready.precision.name:
            of += f" in {self.precision}, not in {ready.precision.name}"
        return f"the vectors were made by {of}, which has {' and '.join(wrong)}"


@dataclass(frozen=True)
class SourceRecord:
    """What was embedded.

    Attributes:
        name: the user's name for the source.
        contents: SHA-256 of `Source.contents`, which all shards of a job share, on any machine.
        stamp: `Source.stamp`, which shards need not share, but which must be the same to resume.
    """

    name: str
    contents: str
    stamp: str = ""


@dataclass(frozen=True)
class FileRecord:
    """The files of one number: how many rows each has, and the SHA-256 of each by its kind."""

    rows: int
    sha256: dict[str, str]


@dataclass(frozen=True)
class SkippedRecord:
    """What was not embedded.

    Attributes:
        account: `BadSamples.to_dict()`: how many inputs were read, and the bad ones by reason.
        size, sha256: the bytes and the digest of the list, `skipped.jsonl`.
    """

    account: dict[str, Any] = field(default_factory=lambda: BadSamples().to_dict())
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """The contents of `embeddings.json`.

    Attributes:
        model: the model; None if it is not known.
        source: the source; None if it is not known.
        root: the folder that `image_path` is relative to; "" if images are not files.
        sides: "img", "text" or both.
        store: "f32", "f16" or "int8".
        metadata: "parquet" or "jsonl".
        rows_per_file: rows of every file but the last.
        settings: what else the files depend on, such as the batch size; a resumed job needs the
            same settings.
        normalized: whether the vectors are unit vectors, except for the rounding of their storage.
        dim: entries of a vector; None before the first vector.
        files: the complete files, in order.
        skipped: the inputs skipped so far.
        position: the position in the source after the last file, in the form of the writer.
        statistics: SHA-256 of the sums of each side; None until the job is complete.
        has_places: whether each number has a file that says which samples its rows are. A manifest
            without this field has no such files.
    """

    model: ModelRecord | None
    source: SourceRecord | None
    root: str
    sides: tuple[str, ...]
    store: str
    metadata: str
    rows_per_file: int
    settings: dict[str, Any] = field(default_factory=dict)
    normalized: bool = True
    dim: int | None = None
    files: tuple[FileRecord, ...] = ()
    skipped: SkippedRecord = field(default_factory=SkippedRecord)
    position: list[int] | None = None
    statistics: dict[str, str] | None = None
    has_places: bool = False

    @property
    def rows(self) -> int:
        """The number of rows in complete files."""
        return sum(file.rows for file in self.files)

    @property
    def is_complete(self) -> bool:
        return self.statistics is not None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of files that each number has, such as "img_emb" and "metadata"."""
        vectors = [vectors_of(side) for side in self.sides]
        scales = [scales_of(side) for side in self.sides if self.store == "int8"]
        places = [PLACE] if self.has_places else []
        return (*vectors, *scales, *places, METADATA)

    def suffix_of(self, kind: str) -> str:
        """Return the suffix of files of a kind."""
        return self.metadata if kind == METADATA else "npy"

    def path_of(self, folder: Path, kind: str, number: int) -> Path:
        """Return the path of the file with this kind and number."""
        return file_of(folder, kind, number, self.suffix_of(kind))

    def same_job(self) -> dict[str, Any]:
        """Return what must be equal so that one job can go on where another job stopped."""
        values = asdict(self)
        own = ("root", "sides", "store", "metadata", "rows_per_file", "settings")
        source, model = values["source"] or {}, values["model"] or {}
        # The names of model and source do not count.
        job = {"source's contents": source.get("contents")} | {name: values[name] for name in own}
        called = ("name", "pretrained")
        return job | {
            f"model's {name}": value for name, value in model.items() if name not in called
        }


def write_manifest(
    folder: Path, manifest: Manifest, tell: Callable[[str], None] = lambda text: None
) -> None:
    """Write the manifest of a folder, replacing the old one.

    Raises:
        CannotWrite: the disk or the folder cannot be written to.
        ValueError: the manifest would be larger than a manifest that can be read.
    """
    values = {"format": FORMAT, "version": VERSION} | asdict(manifest)
    content = json.dumps(values, indent=1, allow_nan=False).encode() + b"\n"
    if len(content) > LARGEST_JSON:
        raise ValueError(
            f"{len(manifest.files):,} files are too many for one manifest: choose more rows per "
            "file, or shards"
        )
    write_bytes(folder / MANIFEST, [content], tell)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises:
        FileNotFoundError: there is no manifest.
        ManifestError: the manifest is damaged, or of another version.
    """
    path = folder / MANIFEST
    values = read_json_object(path, ManifestError)
    kind, version = values.get("format"), values.get("version")
    if kind == FORMAT and type(version) is int and version in FORMER:
        raise ManifestError(f"{path} is of version {version}, {FORMER[version]}")
    if kind != FORMAT or version != VERSION:
        raise ManifestError(
            f"{path} is of format {quoted(kind)}, version {quoted(version)}; this fastclip reads "
            f"{FORMAT!r}, version {VERSION}"
        )
    try:
        return _manifest({k: v for k, v in values.items() if k not in ("format", "version")})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{path} is damaged: {first_line(error)}") from None


def _findable(name: str) -> str:
    """Return an absolute path if the name is a path, otherwise the name."""
    return os.path.abspath(name) if name and os.path.exists(name) else name


def _manifest(values: Mapping[str, Any]) -> Manifest:
    found = record(Manifest, {"has_places": False} | dict(values))
    found["sides"] = tuple(found["sides"])
    found["model"] = found["model"] and ModelRecord(**record(ModelRecord, found["model"]))
    found["source"] = found["source"] and SourceRecord(**record(SourceRecord, found["source"]))
    found["files"] = tuple(FileRecord(**record(FileRecord, f, "sha256")) for f in found["files"])
    found["skipped"] = SkippedRecord(**record(SkippedRecord, found["skipped"]))
    manifest = Manifest(**found)
    require(all(side in SIDES for side in manifest.sides), "sides")
    require(len(set(manifest.sides)) == len(manifest.sides) > 0, "sides")
    require(manifest.store in DTYPES, "store")
    require(manifest.metadata in METADATA_FORMATS, "metadata")
    require(manifest.dim is None or manifest.dim > 0, "dim")
    require(manifest.dim is not None or not manifest.files, "dim")
    require(manifest.rows_per_file > 0, "rows_per_file")
    require(all(0 < file.rows <= manifest.rows_per_file for file in manifest.files), "files")
    for number, file in enumerate(manifest.files):
        require_digests(file.sha256, manifest.kinds, f"files {number}")
    if manifest.statistics is not None:
        sides = manifest.sides if manifest.files else ()
        require_digests(manifest.statistics, sides, "statistics")
    skipped = manifest.skipped
    require(skipped.size >= 0, "size")
    require(is_sha256(skipped.sha256) or (not skipped.size and not skipped.sha256), "sha256")
    BadSamples.from_dict(skipped.account)
    return manifest
