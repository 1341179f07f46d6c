"""`embeddings.json`: what a folder of embeddings holds, and of which model, source and settings.

It is written anew behind every file and names complete files only: what a killed process had begun
is not in it. How many rows are in a file, and the SHA-256 of each, stand here; where the file is
follows from its number, so that no path in a manifest leads anywhere. The one path is `root`, which
is where the images were.
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
# Of folders that are read no more, why.
FORMER = {1: "whose digests do not tell how a model computes with its weights: make it anew"}


class ManifestError(ValueError):
    """A manifest that cannot be read, or does not fit; the message names the file."""


@dataclass(frozen=True)
class ModelRecord:
    """Which model the vectors are of.

    Attributes:
        name: what its user called it.
        weights, preprocess, tokenizer, configuration: SHA-256 digests; see
            `fastclip.models.digests`.
        preprocess_cfg: how images were prepared.
        precision: in which the towers computed.
        logit_scale: the factor of cosines in logits.
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
        """Say in what a model differs from this one; None if its vectors are these."""
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
            of += f" in {self.precision}, and not in {ready.precision.name}"
        return f"the vectors are of {of}, which has {' and '.join(wrong)}"


@dataclass(frozen=True)
class SourceRecord:
    """What was embedded.

    Attributes:
        name: that its user gave.
        contents: SHA-256 of `Source.contents`, which shards of one job on several machines share.
        stamp: `Source.stamp`, which they need not share, but who goes on with these files must.
    """

    name: str
    contents: str
    stamp: str = ""


@dataclass(frozen=True)
class FileRecord:
    """Files of one number: how many rows each has, and the SHA-256 of each by its kind."""

    rows: int
    sha256: dict[str, str]


@dataclass(frozen=True)
class SkippedRecord:
    """What was not embedded.

    Attributes:
        account: `BadSamples.to_dict()`: how many inputs were read, and the bad ones by reason.
        size, sha256: of the list of them, `skipped.jsonl`, in bytes.
    """

    account: dict[str, Any] = field(default_factory=lambda: BadSamples().to_dict())
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """Attributes:
    model: None of vectors whose model nobody has told.
    source: None likewise.
    root: the folder that `image_path` is relative to; "" if images are no files.
    sides: "img", "text" or both.
    store: "f32", "f16" or "int8".
    metadata: "parquet" or "jsonl".
    rows_per_file: rows of every file but the last.
    settings: what else the files depend on, such as the size of a batch; a resumed job needs the
        same.
    normalized: are the vectors unit vectors, up to what storing them rounds?
    dim: entries of a vector; None before the first.
    files: complete ones, in order.
    skipped: so far.
    position: of the source behind the last file, as who writes has it.
    statistics: SHA-256 of the sums of each side; None until the job is complete.
    has_places: is there a file for each number that says which samples its rows are? Folders that
        do not say so have none.
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
        """What there is a file of for each number, such as "img_emb" and "metadata"."""
        vectors = [vectors_of(side) for side in self.sides]
        scales = [scales_of(side) for side in self.sides if self.store == "int8"]
        places = [PLACE] if self.has_places else []
        return (*vectors, *scales, *places, METADATA)

    def suffix_of(self, kind: str) -> str:
        """Return how the names of files of a kind end."""
        return self.metadata if kind == METADATA else "npy"

    def path_of(self, folder: Path, kind: str, number: int) -> Path:
        """Return the path of the file of a kind that has a number."""
        return file_of(folder, kind, number, self.suffix_of(kind))

    def same_job(self) -> dict[str, Any]:
        """Return what must be the same for one job to go on where another one stopped."""
        values = asdict(self)
        own = ("root", "sides", "store", "metadata", "rows_per_file", "settings")
        source, model = values["source"] or {}, values["model"] or {}
        # What model and source are called does not count.
        job = {"source's contents": source.get("contents")} | {name: values[name] for name in own}
        called = ("name", "pretrained")
        return job | {
            f"model's {name}": value for name, value in model.items() if name not in called
        }


def write_manifest(
    folder: Path, manifest: Manifest, tell: Callable[[str], None] = lambda text: None
) -> None:
    """Write the manifest of a folder in place of the one that was there.

    Raises:
        CannotWrite: the disk or the folder refuses.
        ValueError: it would be larger than what is read of one.
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
        FileNotFoundError: there is none.
        ManifestError: it is damaged, or of another version.
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
    """A path from anywhere, if a name is one."""
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
