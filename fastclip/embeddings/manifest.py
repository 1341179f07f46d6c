"""`embeddings.json`: what a folder of embeddings holds, and of which model, source and settings.

It is written anew behind every file and names complete files only: what a killed process had begun
is not in it. How many rows are in a file, and the SHA-256 of each, stand here; where the file is
follows from its number, so that no path in a manifest leads anywhere. The one path is `root`, which
is where the images were.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fastclip.data.json_file import read_json_object
from fastclip.data.limits import LARGEST_JSON
from fastclip.data.loading.bad_samples import BadSamples
from fastclip.data.quoting import first_line, quoted, some_of
from fastclip.embeddings.array_file import write_bytes
from fastclip.embeddings.layout import MANIFEST, METADATA_FORMATS, SIDES
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

    @classmethod
    def of(cls, ready: InferenceModel) -> "ModelRecord":
        """Return the record of a model that was opened for inference."""
        cfg = json.loads(json.dumps(ready.preprocess_cfg))
        return cls(ready.name, *ready.digests, cfg, ready.precision.name, ready.logit_scale)

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
        return f"the vectors are of {quoted(self.name)}, which has {' and '.join(wrong)}"


@dataclass(frozen=True)
class SourceRecord:
    """What was embedded: the name that its user gave, and the SHA-256 of `Source.contents`."""

    name: str
    contents: str


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

    @property
    def rows(self) -> int:
        """The number of rows in complete files."""
        return sum(file.rows for file in self.files)

    @property
    def is_complete(self) -> bool:
        return self.statistics is not None

    def same_job(self) -> dict[str, Any]:
        """Return what must be the same for one job to go on where another one stopped."""
        values = asdict(self)
        own = ("root", "sides", "store", "metadata", "rows_per_file", "settings")
        source, model = values["source"] or {}, values["model"] or {}
        # What model and source are called does not count.
        job = {"source's contents": source.get("contents")} | {name: values[name] for name in own}
        return job | {f"model's {name}": value for name, value in model.items() if name != "name"}


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


def _manifest(values: Mapping[str, Any]) -> Manifest:
    found = _record(Manifest, values)
    found["sides"] = tuple(found["sides"])
    found["model"] = found["model"] and ModelRecord(**_record(ModelRecord, found["model"]))
    found["source"] = found["source"] and SourceRecord(**_record(SourceRecord, found["source"]))
    found["files"] = tuple(FileRecord(**_record(FileRecord, file)) for file in found["files"])
    found["skipped"] = SkippedRecord(**_record(SkippedRecord, found["skipped"]))
    manifest = Manifest(**found)
    _require(bool(manifest.sides) and set(manifest.sides) <= set(SIDES), "sides")
    _require(manifest.store in DTYPES, "store")
    _require(manifest.metadata in METADATA_FORMATS, "metadata")
    _require(manifest.dim is None or manifest.dim > 0, "dim")
    _require(manifest.dim is not None or not manifest.files, "dim")
    _require(manifest.rows_per_file > 0, "rows_per_file")
    _require(all(0 < file.rows <= manifest.rows_per_file for file in manifest.files), "files")
    BadSamples.from_dict(manifest.skipped.account)
    return manifest


# The types that JSON has for a field, where the annotation does not say them.
_TYPES: dict[str, tuple[type, ...]] = {
    "model": (dict, type(None)), "source": (dict, type(None)), "sides": (list,), "files": (list,),
    "skipped": (dict,), "settings": (dict,), "normalized": (bool,), "dim": (int, type(None)),
    "position": (list, type(None)), "statistics": (dict, type(None)), "preprocess_cfg": (dict,),
    "logit_scale": (float, int), "account": (dict,), "rows": (int,), "rows_per_file": (int,),
    "size": (int,),
}  # fmt: skip


def _record(kind: type, values: Any) -> dict[str, Any]:
    """The fields of a dataclass, all of them and of the right types."""
    names = {f.name for f in fields(kind)}
    if not isinstance(values, dict) or set(values) != names:
        wrong = set(values) ^ names if isinstance(values, dict) else {kind.__name__}
        raise ValueError(f"unknown or missing: {some_of(sorted(wrong), 8)}")
    for name, value in values.items():
        if name == "sha256" and kind is FileRecord:
            is_right = isinstance(value, dict)
        else:
            is_right = type(value) in _TYPES.get(name, (str,))
        _require(is_right, name)
    return dict(values)


def _require(holds: bool, name: str) -> None:
    if not holds:
        raise ValueError(f"{name} has a value that it cannot have")
