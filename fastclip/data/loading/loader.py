"""Batches of pairs from several workers, in an order that can be saved and resumed exactly.

Each worker is a DataLoader of its own with one process. The loader takes pieces from the workers in
turn, so that their speed does not change the order. A worker that has finished its part of an epoch
prefetches the next epoch. At the end of an epoch the last pieces of all workers, which are smaller
than a batch, are joined and cut into batches.
"""

import functools
import hashlib
import math
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastclip.data.loading.bad_samples import BadSamples, DataError
from fastclip.data.loading.beside import Beside
from fastclip.data.loading.decoding import Decoder, keeps_sizes
from fastclip.data.loading.image_batch import pinned, together
from fastclip.data.loading.image_cache import ImageCache
from fastclip.data.loading.pieces import Piece, PieceDataset
from fastclip.data.loading.sample_facts import SampleFacts
from fastclip.data.loading.stream import Cursor, Reader
from fastclip.data.loading.workers import Workers
from fastclip.data.sources.source import Contents, Part, Source

JUDGED_AFTER = 100  # samples; of fewer, one bad sample would be a high rate
STATE_VERSION = 1


class Batch(NamedTuple):
    # (B, C, H, W) uint8; a list of B (C, H_i, W_i) if images keep different sizes
    images: Tensor | list[Tensor]
    tokens: Tensor  # (B, T) int64
    keys: list[str]  # B names, for messages


class BatchWithFacts(NamedTuple):
    """A `Batch` with further values of its samples."""

    # (B, C, H, W) uint8; a list of B (C, H_i, W_i) if images keep different sizes
    images: Tensor | list[Tensor]
    tokens: Tensor  # (B, T) int64
    keys: list[str]  # B names, for messages
    # (B,) int64 each, by their names in `sample_facts.py`; and the stored values of `beside`
    facts: dict[str, Tensor]


class PairLoader:
    """Loads the batches of this rank; iterating over it gives what is left of the current epoch.

        for epoch in range(loader.epoch, epochs):
            for images, tokens, keys in loader:
                ...  # loader.state_dict() now says where the run stands after this batch

    After `load_state_dict` the batches are bit for bit those of the uninterrupted run.

    Args:
        source: where samples come from.
        transform, tokenizer: see `Decoder`; they must be picklable if workers are spawned.
        batch_size: pairs in a batch of this rank.
        seed: decides the order and the random numbers of the transform.
        rank, world_size: the number of this process and how many processes the run has. All need
            the same settings; every sample is read by one of them.
        num_workers: processes that read and decode; with 0, the calling process does.
        shuffle_buffer: samples from which each worker draws; 1 keeps the order of the source.
        drop_last: leave out the samples of an epoch that do not fill a batch (`num_dropped` counts
            them), instead of making a smaller batch of them.
        batches_per_epoch: with None, an epoch is one pass over the data, in which ranks may have
            different numbers of batches. With a number, each epoch has that many batches on every
            rank, and a pass over the data may go on into the next epoch.
        max_bad_rate: the largest fraction of samples, in [0, 1], that may be bad.
        prefetch: batches that each worker has ready.
        pin_memory: return batches in pinned memory; by default if CUDA is available.
        start_method: how workers are started: "fork", "spawn" or "forkserver"; by default Python's.
        facts: names of `sample_facts.py`; with any, batches are `BatchWithFacts`. Facts are the
            same in every pass, rank and run. For "numbers", all parts of `source` must say how
            many samples they have.
        in_order_of: one of `facts`, by which the samples of a batch are sorted; None leaves them in
            the order in which they were drawn. It does not change which samples a batch has. The
            smaller batches at the end of a pass are joined from parts that are sorted.
        beside: finds stored values of each sample, see `beside.py`; batches are then
            `BatchWithFacts`. A sample without stored values is bad.
        image_cache: keeps decoded images, for a `transform` of `fastclip.data.preprocess`; it must
            have as many writers as there are workers. Workers must be forked.
        any_size: whether images may keep different sizes; a batch of such images is a list. By
            default they may if `transform` is one of `fastclip.data.preprocess` for a NaFlex model;
            give True if that transform is wrapped in a function of your own.

    Attributes:
        epoch: the number of finished epochs.
        bad_samples: the account of bad samples in all batches so far.
        contents: the contents of the source; a state recognises its data by a digest of them. They
            are read when first needed. Ranks that share their data may be given what one rank read.
        num_dropped: samples left out by `drop_last` so far.

    Raises:
        DataError: when iterated over: a larger fraction of samples than `max_bad_rate` is bad,
            judged from 100 samples on and at the end of a pass; a pass makes no batch; a worker
            died; or data has changed since the state was saved. The samples of a missing shard,
            which are bad all at once, are judged as a fraction of the whole pass.
        OSError: the source cannot be listed.
        TypeError: when iterated over: the transform does not return uint8, or the tokenizer int64.
        ValueError: an argument is out of its range; or, when iterated over, images have different
            sizes and may not, or tokens have different lengths.
    """

    def __init__(
        self,
        source: Source,
        transform: Callable[[Any], Tensor] | None,
        tokenizer: Callable[[list[str]], Tensor],
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        shuffle_buffer: int = 1000,
        drop_last: bool = True,
        batches_per_epoch: int | None = None,
        max_bad_rate: float = 0.1,
        prefetch: int = 2,
        pin_memory: bool | None = None,
        start_method: str | None = None,
        facts: Collection[str] = (),
        in_order_of: str | None = None,
        beside: Beside | None = None,
        image_cache: ImageCache | None = None,
        any_size: bool | None = None,
    ) -> None:
        given_batches = 1 if batches_per_epoch is None else batches_per_epoch
        for name, value, least in (
            ("batch_size", batch_size, 1), ("world_size", world_size, 1), ("rank", rank, 0),
            ("num_workers", num_workers, 0), ("shuffle_buffer", shuffle_buffer, 1),
            ("prefetch", prefetch, 1), ("batches_per_epoch", given_batches, 1),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if rank >= world_size:
            raise ValueError(f"rank must be below world_size {world_size}, got {rank}")
        if not 0 <= max_bad_rate <= 1:
            raise ValueError(f"max_bad_rate must be in [0, 1], got {max_bad_rate}")
        parts = source.parts()
        if in_order_of is not None and in_order_of not in facts:
            raise ValueError(f"in_order_of must be one of facts, {facts}, got {in_order_of!r}")
        self._facts = SampleFacts(facts, parts)
        self._in_order_of = in_order_of
        self._beside = beside
        self._image_cache = image_cache
        num_streams = max(num_workers, 1)
        self._readers = [
            Reader(source, parts, rank * num_streams + worker, world_size * num_streams, seed,
                   shuffle_buffer)
            for worker in range(num_streams)
        ]  # fmt: skip
        self._source = source
        self._decoder = Decoder(
            transform, tokenizer, seed,
            any_size=keeps_sizes(transform) if any_size is None else any_size,
        )  # fmt: skip
        self._settings = {
            "batch_size": batch_size, "seed": seed, "rank": rank, "world_size": world_size,
            "num_workers": num_streams, "shuffle_buffer": shuffle_buffer, "drop_last": drop_last,
            "batches_per_epoch": batches_per_epoch, "parts": _fingerprint(source, parts),
        }  # fmt: skip
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._batches_per_epoch = batches_per_epoch
        self._max_bad_rate = max_bad_rate
        given = None if batches_per_epoch is None else batches_per_epoch * batch_size * world_size
        self._pass_length = (source.num_samples() or given or math.inf) / world_size
        self._pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._workers = Workers(
            num_streams, None if num_workers == 0 else prefetch, start_method, self._pin_memory
        )  # fmt: skip

        self.bad_samples = BadSamples()
        self.num_dropped = 0
        self.epoch = 0
        self._batches_in_epoch = 0
        self._pass = 0
        self._last_pieces: list[Piece | None] = [None] * num_streams
        self._begin_pass()

    @functools.cached_property
    def contents(self) -> Contents:
        return self._source.contents()

    @functools.cached_property
    def _data(self) -> str:
        # A run takes a state after every step, and the contents may name 100,000 shards.
        return hashlib.sha256(repr(self.contents).encode()).hexdigest()[:16]

    def __iter__(self) -> Iterator[Batch | BatchWithFacts]:
        while self._batches_in_epoch != self._batches_per_epoch:
            batch = self._next_batch()
            if batch is not None:
                self._batches_in_epoch += 1
                yield batch
            elif self._batches_per_epoch is None:
                break
        self.epoch += 1
        self._batches_in_epoch = 0

    def state_dict(self) -> dict:
        """Return where the loader stands after the last batch, as plain values and tensors."""
        return {
            "version": STATE_VERSION,
            "settings": self._settings | {"data": self._data},
            "epoch": self.epoch,
            "batches_in_epoch": self._batches_in_epoch,
            "pass": self._pass,
            "num_full": self._num_full,
            "num_from_last": self._num_from_last,
            "turn": self._turn,
            "cursors": [cursor and cursor.to_dict() for cursor in self._cursors],
            "bad_samples": self.bad_samples.to_dict(),
            "num_dropped": self.num_dropped,
        }

    def load_state_dict(self, state: dict) -> None:
        """Go to the position at which `state` was taken.

        Raises:
            ValueError: `state` was saved by a loader with other settings or other data.
        """
        if state["version"] != STATE_VERSION:
            raise ValueError(f"state must be of version {STATE_VERSION}, got {state['version']}")
        saved = state["settings"]
        own = self._settings
        if "data" in saved:  # older states only have the names of their data
            own = own | {"data": self._data}
        for name, value in own.items():
            if saved[name] != value:
                raise ValueError(
                    f"state must be from a loader with the same {name}: it was saved with "
                    f"{saved[name]!r}, but this loader has {value!r}"
                )
        self.epoch = state["epoch"]
        self._batches_in_epoch = state["batches_in_epoch"]
        self._pass = state["pass"]
        self.close()
        self._num_full = state["num_full"]
        self._num_from_last = state["num_from_last"]
        self._turn = state["turn"]
        self._cursors = [cursor and Cursor.from_dict(cursor) for cursor in state["cursors"]]
        self.bad_samples = BadSamples.from_dict(state["bad_samples"])
        self.num_dropped = state["num_dropped"]

    def close(self) -> None:
        """Stop the workers; iterating starts them again after the last batch."""
        self._workers.close()
        self._last_pieces = [None] * len(self._readers)

    def _begin_pass(self) -> None:
        """Reset the position. Workers that run have already begun the next pass."""
        num_streams = len(self._readers)
        self._turn = 0  # whose piece is next
        # The position after the last full piece of each worker; None is the start of the pass.
        self._cursors: list[Cursor | None] = [None] * num_streams
        self._last_pieces = [None] * num_streams
        self._num_full = 0  # batches that were whole pieces
        self._num_from_last = 0  # batches made of last pieces

    def _next_batch(self) -> Batch | BatchWithFacts | None:
        """Return the next batch of the pass, or begin the next pass and return None."""
        while None in self._last_pieces:
            worker = self._turn
            self._turn = (worker + 1) % len(self._readers)
            if self._last_pieces[worker] is not None:
                continue
            piece = self._take(worker)
            if piece.is_last:  # its cursor is not kept: a resumed run will take it again
                self._last_pieces[worker] = piece
                continue
            self._account_for(piece.bad)
            self._cursors[worker] = piece.cursor
            self._num_full += 1
            return _batch(piece.images, piece.tokens, piece.keys, piece.facts)
        return self._next_from_last()

    def _next_from_last(self) -> Batch | BatchWithFacts | None:
        keys = [key for piece in self._last_pieces for key in piece.keys]
        start = self._num_from_last * self._batch_size
        stop = min(start + self._batch_size, len(keys))
        is_full = stop - start == self._batch_size
        if is_full or (start < stop and not self._drop_last):
            self._num_from_last += 1
            images, tokens = self._rows_of_last(start, stop)
            facts = self._facts_of_last(start, stop)
            return _batch(images, tokens, keys[start:stop], facts)
        self._end_pass(max(stop - start, 0))
        return None

    def _rows_of_last(self, start: int, stop: int) -> tuple[Tensor | list[Tensor], Tensor]:
        pieces = [piece for piece in self._last_pieces if piece.keys]
        tokens = torch.cat([piece.tokens for piece in pieces])[start:stop].clone()
        rows = [image for piece in pieces for image in piece.images][start:stop]
        images = together(rows, self._decoder.any_size)
        return (pinned(images), tokens.pin_memory()) if self._pin_memory else (images, tokens)

    def _facts_of_last(self, start: int, stop: int) -> dict[str, Tensor]:
        pieces = [piece.facts for piece in self._last_pieces if piece.keys]
        return {
            name: torch.cat([facts[name] for facts in pieces])[start:stop] for name in pieces[0]
        }

    def _end_pass(self, num_left: int) -> None:
        for piece in self._last_pieces:
            self.bad_samples = self.bad_samples.merge(piece.bad)
        self._judge(self.bad_samples.num_bad, self.bad_samples.num_seen, self.bad_samples)
        num_batches = self._num_full + self._num_from_last
        if num_batches == 0 and (self._drop_last or self._batches_per_epoch is not None):
            raise DataError(
                f"rank {self._settings['rank']} of {self._settings['world_size']} has "
                f"{num_left} good samples, fewer than batch_size = {self._batch_size}; "
                + self.bad_samples.report()
            )
        self.num_dropped += num_left
        self._pass += 1
        self._begin_pass()

    def _take(self, worker: int) -> Piece:
        """Wait for the worker's next piece."""
        while (piece := self._workers.take(worker, self._dataset)).is_news:
            self._judge_so_far(self.bad_samples.merge(piece.bad))
        return piece

    def _dataset(self, worker: int) -> PieceDataset:
        decoder = self._decoder
        if self._image_cache is not None:
            decoder = replace(decoder, kept=self._image_cache.part(worker))
        return PieceDataset(
            self._readers[worker], decoder, self._batch_size, self._pass,
            self._cursors[worker], self._facts, self._in_order_of, self._beside,
        )  # fmt: skip

    def _account_for(self, bad: BadSamples) -> None:
        self.bad_samples = self.bad_samples.merge(bad)
        self._judge_so_far(self.bad_samples)

    def _judge_so_far(self, bad: BadSamples) -> None:
        """Judge within a pass; samples of lost shards count as a fraction of the whole pass."""
        lost = bad.num_in_lost_shards
        if bad.num_seen - lost >= JUDGED_AFTER:
            self._judge(bad.num_bad - lost, bad.num_seen - lost, bad)
        self._judge(lost, max(bad.num_seen, self._pass_length * (self._pass + 1)), bad)

    def _judge(self, num_bad: int, num: float, bad: BadSamples) -> None:
        """
        Args:
            num_bad, num: bad samples, and all samples; `bad` is the account for the message.
        """
        if num_bad > self._max_bad_rate * num:
            raise DataError(
                f"{num_bad / num:.1%} of the samples are bad, more than max_bad_rate = "
                f"{self._max_bad_rate:.1%}: {bad.report()}"
            )


def _batch(
    images: Tensor | list[Tensor],
    tokens: Tensor,
    keys: list[str],
    facts: dict[str, Tensor],
) -> Batch | BatchWithFacts:
    if not facts:
        return Batch(images, tokens, keys)
    return BatchWithFacts(images, tokens, keys, facts)


def _fingerprint(source: Source, parts: list[Part]) -> str:
    """Return a hash that changes with the parts and positions, but not with the data's folder."""
    digest = hashlib.sha256(type(source).__name__.encode())
    for part in parts:
        digest.update(repr((os.path.basename(part.name), part.start, part.stop)).encode())
    return f"{len(parts)} parts, {digest.hexdigest()[:16]}"
