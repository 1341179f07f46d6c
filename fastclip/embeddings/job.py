"""The loop of a job: it takes inputs one by one, encodes them in batches and writes files."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastclip.data.loading.bad_samples import BadSamples, DataError
from fastclip.data.loading.loader import JUDGED_AFTER
from fastclip.data.loading.token_budget import NO_PADDING, Padding
from fastclip.data.quoting import quoted
from fastclip.embeddings.encode import Encoder
from fastclip.embeddings.feed import START, Feed, Position, Ready, Taken
from fastclip.embeddings.manifest import ManifestError
from fastclip.embeddings.token_budget import features_within
from fastclip.embeddings.writer import EmbeddingsWriter
from fastclip.models.inference import InferenceModel


@dataclass
class Progress:
    """How far a job has come, and how it went.

    Attributes:
        folder: where the files are; for a job in several parts, the folder of this part.
        rows: rows that are written or being written, including an earlier process.
        total: inputs of the job; None if it is only known after reading them.
        account: the account of inputs read and skipped, including an earlier process.
        not_of_samples: files of the source that belong to no sample, by suffix.
        decoded, decode_seconds: images that this process decoded, and the time it took with all
            threads at work.
        encoded, model_seconds: rows that the model encoded in this process, and the time it took.
        padding: the cost of batches of images of different sizes in this process.
        left_out: values of metadata of these rows that JSON cannot hold, such as infinity, and that
            None has replaced.
        gathered: values of metadata in the files of this process that have no column of their own;
            see `columns.py`.
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
    padding: Padding = NO_PADDING
    left_out: int = 0
    gathered: int = 0

    @property
    def decode_rate(self) -> float:
        """Images per second that all threads together decode."""
        return self.decoded / max(self.decode_seconds, 1e-9)

    @property
    def model_rate(self) -> float:
        """Rows per second that the model encodes."""
        return self.encoded / max(self.model_seconds, 1e-9)


class Job:
    """Encodes inputs with a model and writes the vectors to a folder.

    Args:
        progress: called with `state` after every batch.
        The other arguments are as in `embed`.
    """

    def __init__(
        self, ready: InferenceModel, feed: Feed, writer: EmbeddingsWriter, state: Progress,
        batch_size: int, max_tokens: int | None, strict: bool, max_bad_rate: float,
        progress: Callable[[Progress], None],
    ) -> None:  # fmt: skip
        self._ready, self._encoder = ready, Encoder.of(ready)
        # For images of different sizes, whose batches are made by length.
        most = ready.preprocess_cfg.get("max_num_patches")
        self._max_tokens = max_tokens or (most and most * batch_size)
        self._feed, self._writer, self._state = feed, writer, state
        self._batch_size, self._strict, self._max_bad_rate = batch_size, strict, max_bad_rate
        self._progress = progress
        self._batch: list[Ready] = []

    def run(self) -> None:
        """Go on after the last complete file, to the end.

        Raises:
            CannotWrite, DataError, ValueError: see `embed`.
        """
        position = _position(self._writer.manifest.position, len(self._feed.parts))
        for taken in self._feed.read(position):
            self._take(taken)
            position = taken.position
            if len(self._batch) == min(self._batch_size, self._writer.room):
                self._encode()
                if self._writer.room == 0:
                    self._end_file(position)
        if self._batch:
            self._encode()
        # If nothing was read, nothing follows the last file either.
        self._end_file(None if position == START else position)
        account = self._state.account
        self._judge(account.num_bad, account.num_seen)
        self._writer.finish()

    def _end_file(self, position: Position | None) -> None:
        self._writer.end_file(position)
        self._state.gathered = self._writer.num_gathered

    def _take(self, taken: Taken) -> None:
        account = self._state.account
        if isinstance(taken.found, Ready):
            account.num_seen += 1
            account.num_cut += taken.found.is_cut
            self._batch.append(taken.found)
            return
        bad = taken.found
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
                f"{self._max_bad_rate:.1%}; to go on, resume the job with a higher one: "
                + self._state.account.report()
            )

    def _encode(self) -> None:
        begun = time.perf_counter()
        vectors = self._features()
        rows = [ready.row for ready in self._batch]
        arrays = {side: part.cpu().numpy() for side, part in vectors.items() if part is not None}
        state = self._state
        state.model_seconds += time.perf_counter() - begun
        places = None  # for a folder that was begun without places
        if self._writer.manifest.has_places:
            places = np.array([ready.place for ready in self._batch], np.int64)
        self._writer.add(arrays, rows, places)
        state.rows += len(rows)
        state.encoded += len(rows)
        state.decoded = self._feed.num_decoded
        state.left_out = self._feed.num_left_out
        state.decode_seconds = self._feed.decode_seconds / self._feed.workers
        self._batch = []
        self._progress(state)

    def _features(self) -> dict[str, Tensor | None]:
        """Return the features of the batch, by side."""
        first, batch = self._batch[0], self._batch
        keys = [ready.row["key"] for ready in batch]
        images = None if first.image is None else [ready.image for ready in batch]
        tokens = None if first.tokens is None else torch.stack([ready.tokens for ready in batch])
        if images is None:
            (found,) = self._encoder.tokens([(None, tokens, keys)])
        elif self._max_tokens is not None:
            return self._features_within(images, tokens, keys, self._max_tokens)
        else:
            encode = self._encoder.images if tokens is None else self._encoder.pairs
            (found,) = encode([(torch.stack(images), tokens, keys)])
        return {"img": found.image_features, "text": found.text_features}

    def _features_within(
        self, images: list[Tensor], tokens: Tensor | None, keys: list[str], max_tokens: int
    ) -> dict[str, Tensor | None]:
        """Return the features of images of different sizes, with each forward within a budget."""
        features, padding = features_within(self._ready, self._encoder, images, max_tokens)
        self._state.padding = self._state.padding.plus(padding)
        if tokens is None:
            return {"img": features, "text": None}
        (found,) = self._encoder.tokens([(None, tokens, keys)])
        return {"img": features, "text": found.text_features}


def _position(recorded: list | None, num_parts: int) -> Position:
    if recorded is None:
        return START
    is_pair = len(recorded) == 2 and all(type(value) is int and value >= 0 for value in recorded)
    if not is_pair or recorded[0] >= num_parts:
        raise ManifestError(f"the manifest has a position that does not exist: {quoted(recorded)}")
    return recorded[0], recorded[1]
