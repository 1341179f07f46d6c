"""Embeds images and texts into a folder: an input for each row, in the order of the source."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastclip.data.loading.bad_samples import BadSamples, DataError
from fastclip.data.loading.loader import JUDGED_AFTER
from fastclip.data.preprocess import EvaluationTransform
from fastclip.data.sources.samples import BadSample
from fastclip.data.sources.source import Source
from fastclip.embeddings.encode import Encoder
from fastclip.embeddings.feed import START, Feed, Ready, Taken
from fastclip.embeddings.inputs import Input, open_input
from fastclip.embeddings.layout import METADATA_FORMATS, shard_folder
from fastclip.embeddings.manifest import Manifest, ModelRecord, SourceRecord
from fastclip.embeddings.storage import DTYPES
from fastclip.embeddings.writer import EmbeddingsWriter
from fastclip.models.inference import InferenceModel


@dataclass
class Progress:
    """How far a job is, and how it went.

    Attributes:
        folder: where the files are; of a job in several parts the folder of this one.
        rows: that are written or being written, those of an earlier process included.
        total: inputs of the job, None if only reading them tells.
        account: of what was read, and what of it was skipped, likewise.
        not_of_samples: files of the source that are no part of a sample, by suffix.
        decoded, decode_seconds: images that this process decoded, and the time for that, with all
            threads at work.
        encoded, model_seconds: rows that the model encoded in this process, and the time for that.
    """

    folder: Path
    rows: int
    total: int | None
    account: BadSamples
    not_of_samples: dict[str, int]
    decoded: int = 0
    decode_seconds: float = 0.0
    encoded: int = 0
    model_seconds: float = 0.0

    @property
    def decode_rate(self) -> float:
        """Images a second that the threads decode together."""
        return self.decoded / max(self.decode_seconds, 1e-9)

    @property
    def model_rate(self) -> float:
        """Rows a second that the model encodes."""
        return self.encoded / max(self.model_seconds, 1e-9)


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
    killed at any moment and is resumed writes the same files, to the bit, on the same machine. What
    cannot be embedded is skipped, counted and listed with its reason in `skipped.jsonl`; an input
    that was there when the source was listed and is gone when it is read is among that.

    Args:
        ready: from `open_model`.
        source: see `open_input`.
        out: made if there is none; without `resume` it must have no embeddings.
        images, texts: which sides to embed; by default what there is, and only what is True if one
            of them is. With texts, an image without a caption is skipped.
        store: "f32", "f16" or "int8"; see `storage.py`.
        metadata: "parquet", which needs pyarrow, or "jsonl".
        rows_per_file, batch_size: rows of a file, and of a forward of the model, which never is of
            two files.
        workers: threads that decode images; by default one for each core.
        decode: "exact", or "fast", which takes JPEGs that are much larger than the model's images
            in a part of their size; see `EvaluationTransform`.
        shard: (i, n) embeds part i of n, numbered from 0, into a folder in `out`; n such jobs, on
            any machines and in any order, are the whole.
        resume: go on where a job with the same model, source and settings stopped.
        strict: end at the first input that cannot be embedded.
        max_bad_rate: fraction of inputs, in [0, 1], that may be skipped.
        image_key, caption_key, separator: see `open_input`.
        progress: called behind every batch.
        tell: called with sentences that the user should know.

    Raises:
        CannotRead, CannotWrite: the disk refuses; what is complete stays, and can be resumed.
        DataError: more inputs are bad than may be, or one is and `strict`; what is complete stays.
        ModuleNotFoundError: a package is not installed that the source or the metadata needs.
        OSError: the source cannot be read.
        ValueError: an argument is out of its range, the source has nothing of a side, the model
            gives what is no number, or the folder is that of another job or another process.

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
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}")
    if not 0 <= max_bad_rate <= 1:
        raise ValueError(f"max_bad_rate must be in [0, 1], got {max_bad_rate}")
    workers = os.cpu_count() or 1 if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")

    found = open_input(source, image_key=image_key, caption_key=caption_key, separator=separator)
    sides = _sides(found, images, texts)
    parts = found.parts(index, count)
    out = Path(out)
    manifest = Manifest(
        ModelRecord.of(ready), SourceRecord(found.name, found.digest), found.root, sides, store,
        metadata, rows_per_file,
        {"batch_size": batch_size, "decode": decode, "shard": [index, count]},
    )  # fmt: skip
    feed = Feed(
        found, parts, _transform(ready, decode) if "img" in sides else None,
        ready.tokenizer if "text" in sides else None, workers, 2 * batch_size,
    )  # fmt: skip
    folder = out if count == 1 else shard_folder(out, index, count)
    with EmbeddingsWriter(folder, manifest, resume, tell) as writer:
        sizes = [part.num_samples for part in parts]
        state = Progress(
            folder, writer.manifest.rows, None if None in sizes else sum(sizes),
            writer.skipped.account, found.source.skipped(),
        )  # fmt: skip
        if not writer.manifest.is_complete:
            _Job(ready, feed, writer, state, batch_size, strict, max_bad_rate, progress).run()
    return state


class _Job:
    def __init__(
        self, ready: InferenceModel, feed: Feed, writer: EmbeddingsWriter, state: Progress,
        batch_size: int, strict: bool, max_bad_rate: float, progress: Callable[[Progress], None],
    ) -> None:  # fmt: skip
        self._encoder, self._feed, self._writer, self._state = (
            Encoder.of(ready),
            feed,
            writer,
            state,
        )
        self._batch_size, self._strict, self._max_bad_rate = batch_size, strict, max_bad_rate
        self._progress = progress
        self._batch: list[Ready] = []

    def run(self) -> None:
        position = self._writer.manifest.position
        position = START if position is None else tuple(position)
        for taken in self._feed.read(position):
            self._take(taken)
            position = taken.position
            if len(self._batch) == min(self._batch_size, self._writer.room):
                self._encode()
                if self._writer.room == 0:
                    self._writer.end_file(position)
        if self._batch:
            self._encode()
        self._writer.end_file(position)
        account = self._state.account
        self._judge(account.num_bad, account.num_seen)
        self._writer.finish()

    def _take(self, taken: Taken) -> None:
        account = self._state.account
        if isinstance(taken.found, Ready):
            account.num_seen += 1
            self._batch.append(taken.found)
            return
        bad: BadSample = taken.found
        account.num_seen += bad.lost
        self._writer.skip(bad)
        if self._strict and bad.lost:
            raise DataError(f"{bad.key} cannot be embedded: {bad.reason}: {bad.detail}")
        lost = account.num_in_lost_shards
        if account.num_seen - lost >= JUDGED_AFTER:
            self._judge(account.num_bad - lost, account.num_seen - lost)

    def _judge(self, num_bad: int, num: int) -> None:
        if num_bad > self._max_bad_rate * num:
            raise DataError(
                f"{num_bad / num:.1%} of the inputs cannot be embedded, more than max_bad_rate = "
                f"{self._max_bad_rate:.1%}; with a higher one, a resumed job goes on: "
                + self._state.account.report()
            )

    def _encode(self) -> None:
        begun = time.perf_counter()
        images, tokens = (_stacked(self._batch, name) for name in ("image", "tokens"))
        keys = [ready.row["key"] for ready in self._batch]
        if tokens is None:
            encode = self._encoder.images
        else:
            encode = self._encoder.tokens if images is None else self._encoder.pairs
        (found,) = encode([(images, tokens, keys)])
        vectors = {"img": found.image_features, "text": found.text_features}
        rows = [ready.row for ready in self._batch]
        arrays = {side: part.cpu().numpy() for side, part in vectors.items() if part is not None}
        state = self._state
        state.model_seconds += time.perf_counter() - begun
        self._writer.add(arrays, rows)
        state.rows += len(rows)
        state.encoded += len(rows)
        state.decoded = self._feed.num_decoded
        state.decode_seconds = self._feed.decode_seconds / self._feed.workers
        self._batch = []
        self._progress(state)


def _transform(ready: InferenceModel, decode: str) -> Callable[[Any], Tensor]:
    if decode == "exact":
        return ready.transform
    if not isinstance(ready.transform, EvaluationTransform):
        raise ValueError(f"decode must be 'exact' for the images of {ready.name}, got {decode!r}")
    return replace(ready.transform, decode=decode)


def _stacked(batch: list[Ready], name: str) -> Tensor | None:
    parts = [getattr(ready, name) for ready in batch]
    return None if parts[0] is None else torch.stack(parts)


def _checked_shard(shard: tuple[int, int]) -> tuple[int, int]:
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard must be i of n, i from 0 to n - 1, got {index} of {count}")
    return index, count


def _sides(found: Input, images: bool | None, texts: bool | None) -> tuple[str, ...]:
    """Which sides are embedded; both are None where nobody has chosen."""
    if images and not found.has_images:
        raise ValueError(f"{found.name} has no images")
    if images is None and texts is None:
        images, texts = found.has_images, not found.has_images or found.has_captions
    sides = tuple(side for side, wanted in (("img", images), ("text", texts)) if wanted)
    if not sides:
        raise ValueError("images or texts must be embedded, or both")
    return sides
