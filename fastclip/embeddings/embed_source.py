"""Embeds images and texts into a folder: one row for each input, in the order of the source."""

import os
from collections.abc import Callable
from pathlib import Path

from fastclip.data.preprocess import DECODINGS
from fastclip.data.sources.file_stamp import objection_to
from fastclip.data.sources.source import Source
from fastclip.embeddings.feed import Feed
from fastclip.embeddings.inputs import Input, open_input
from fastclip.embeddings.job import Job, Progress
from fastclip.embeddings.layout import METADATA_FORMATS, shard_folder
from fastclip.embeddings.manifest import Manifest, ModelRecord, SourceRecord
from fastclip.embeddings.storage import DTYPES
from fastclip.embeddings.token_budget import require_budget
from fastclip.embeddings.writer import EmbeddingsWriter
from fastclip.models.inference import InferenceModel


def embed(
    ready: InferenceModel,
    source: str | os.PathLike | Source,
    out: str | os.PathLike,
    *,
    images: bool | None = None,
    texts: bool | None = None,
    store: str = "f32",
    metadata: str = "parquet",
    rows_per_file: int = 100_000,
    batch_size: int = 256,
    max_tokens: int | None = None,
    workers: int | None = None,
    decode: str = "exact",
    shard: tuple[int, int] = (0, 1),
    resume: bool = False,
    strict: bool = False,
    max_bad_rate: float = 0.1,
    image_key: str | None = None,
    caption_key: str | None = None,
    separator: str | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Progress:
    """Embed a source into a folder, which `open_embeddings` reads.

    The vectors are unit vectors in the order of the source, whatever `workers` is. A job that was
    killed at any moment and is resumed writes the same files, bit for bit, on the same machine. An
    input that cannot be embedded is skipped, counted and listed with the reason in `skipped.jsonl`;
    that includes an input that was there when the source was listed and is gone when it is read.

    Args:
        ready: the model, from `open_model`.
        source: see `open_input`.
        out: the folder, which is made if missing; without `resume` it must not have embeddings.
        images, texts: which sides to embed. By default all that the source has; if one of them is
            True, only that one. With texts, an image without a caption is skipped.
        store: "f32", "f16" or "int8"; see `storage.py`.
        metadata: "parquet", which needs pyarrow, or "jsonl".
        rows_per_file, batch_size: rows of a file, and of a forward of the model, which never spans
            two files.
        max_tokens: the most tokens of a forward with images that keep different sizes (a NaFlex
            model), padding included: the images of a batch are sorted by length and cut into
            forwards within it. With None, each batch is one forward. It must be None if no image is
            embedded.
        workers: threads that decode images; by default one for each core.
        decode: "exact", or "fast", which decodes JPEGs that are much larger than the model's images
            at a reduced size; see `EvaluationTransform`.
        shard: (i, n) embeds part i of n, numbered from 0, into a folder in `out`; n such jobs, on
            any machines and in any order, make the whole.
        resume: go on where a job with the same model, source and settings stopped, if no file of
            the source was written since then.
        strict: stop at the first input that cannot be embedded.
        max_bad_rate: the largest fraction of inputs, in [0, 1], that may be skipped.
        image_key, caption_key, separator: see `open_input`.
        progress: called after every batch.
        tell: called with sentences that the user should read.

    Raises:
        CannotRead, CannotWrite: the disk cannot be read or written; complete files stay, and the
            job can be resumed.
        DataError: more inputs are bad than allowed, or one is bad and `strict` is True; complete
            files stay.
        ModuleNotFoundError: a package that the source or the metadata needs is not installed.
        OSError: the source cannot be read.
        ValueError: an argument is out of its range, the source has no input of a side, the model
            returns values that are not finite, or the folder belongs to another job or process.

    Example:
        >>> ready = open_model("logs/my-run")
        >>> embed(ready, "photos", "embeddings", store="f16").rows
        1203
        >>> open_embeddings("embeddings").images.rows([0]).shape
        (1, 512)
    """
    index, count = _checked_shard(shard)
    for name, value in (("rows_per_file", rows_per_file), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    for name, value, known in (
        ("store", store, tuple(DTYPES)),
        ("metadata", metadata, METADATA_FORMATS),
        ("decode", decode, DECODINGS),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}")
    if not 0 <= max_bad_rate <= 1:
        raise ValueError(f"max_bad_rate must be in [0, 1], got {max_bad_rate}")
    if max_tokens is not None:
        require_budget(ready, max_tokens)
    workers = os.cpu_count() or 1 if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")

    found = open_input(source, image_key=image_key, caption_key=caption_key, separator=separator)
    sides = _sides(found, images, texts)
    if max_tokens is not None and "img" not in sides:
        raise ValueError(f"max_tokens must be None if no image is embedded, got {max_tokens}")
    _require_towers(ready, sides)
    parts = found.parts(index, count)
    out = Path(out)
    record = SourceRecord(found.name, found.digest, found.source.stamp())
    manifest = Manifest(
        ModelRecord.of(ready), record, found.root, sides, store, metadata, rows_per_file,
        {"batch_size": batch_size, "decode": decode, "shard": [index, count]}
        | ({} if max_tokens is None else {"max_tokens": max_tokens}),
        has_places=True,
    )  # fmt: skip
    feed = Feed(
        found, parts, found.stretches(index, count),
        ready.with_decoding(decode).transform if "img" in sides else None,
        ready.tokenizer if "text" in sides else None, workers, 2 * batch_size,
    )  # fmt: skip
    folder = out if count == 1 else shard_folder(out, index, count)
    with EmbeddingsWriter(folder, manifest, resume, tell) as writer:
        _require_same_files(folder, writer.manifest, manifest)
        sizes = [part.num_samples for part in parts]
        state = Progress(
            folder, writer.manifest.rows, None if None in sizes else sum(sizes),
            writer.skipped.account, found.source.skipped(),
        )  # fmt: skip
        if not writer.manifest.is_complete:
            Job(
                ready, feed, writer, state, batch_size, max_tokens, strict, max_bad_rate, progress
            ).run()
    return state


def _require_same_files(folder: Path, begun: Manifest, now: Manifest) -> None:
    if (objection := objection_to(begun.source.stamp, now.source.stamp)) is not None:
        raise ValueError(
            f"{folder} cannot be resumed: {objection}; remove it, or embed into another folder"
        )


def _checked_shard(shard: tuple[int, int]) -> tuple[int, int]:
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard must be i of n, with i from 0 to n - 1, got {index} of {count}")
    return index, count


def _require_towers(ready: InferenceModel, sides: tuple[str, ...]) -> None:
    for side, tower in (("img", "image"), ("text", "text")):
        if side in sides and ready.only not in (None, tower):
            raise ValueError(
                f"{ready.name} was opened for {ready.only}s only, but {tower}s shall be embedded"
            )


def _sides(found: Input, images: bool | None, texts: bool | None) -> tuple[str, ...]:
    """Return which sides are embedded; both arguments are None if the user has not chosen."""
    if images and not found.has_images:
        raise ValueError(f"{found.name} has no images")
    if images is None and texts is None:
        images, texts = found.has_images, not found.has_images or found.has_captions
    sides = tuple(side for side, wanted in (("img", images), ("text", texts)) if wanted)
    if not sides:
        raise ValueError("images or texts must be embedded, or both")
    return sides
