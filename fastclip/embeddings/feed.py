"""Reads inputs in the order of their source, and decodes them in threads ahead of the caller.

Pillow decodes and resizes without Python's lock, so that threads are enough. The number of inputs
that are read ahead is bounded, and so are the bytes of their files.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from fastclip.data.loading.captions import CaptionReader
from fastclip.data.loading.decoding import read_pixels
from fastclip.data.sources.samples import NO_CAPTION, BadSample, Sample
from fastclip.data.sources.source import Part, Place
from fastclip.embeddings.inputs import Input
from fastclip.embeddings.metadata import Row

MOST_BYTES_AHEAD = 2**30  # of files in memory that wait to be decoded
START = (0, None)

Position = tuple[int, int | None]
# Of an input: the position after it, its place, its metadata or why it is bad, the sample if it is
# good, the bytes of its file, its pixels.
Waiting = tuple[Position, Place, "Row | BadSample", "Sample | None", int, "Future | None"]


class Ready(NamedTuple):
    """An input that can be encoded; None for a side that is not wanted."""

    row: Row
    image: Tensor | None  # (C, H, W) uint8
    tokens: Tensor | None  # (T,) int64
    place: Place  # in the whole source
    is_cut: bool = False  # whether the caption did not fit


class Taken(NamedTuple):
    position: Position  # after the input: a part, and a position in it; see `Source.read`
    found: Ready | BadSample


@dataclass
class Feed:
    """Reads and decodes the inputs of a job.

    Attributes:
        input, parts: what is read: all of `parts`, or what follows a position in them.
        stretches: the stretch of each part in the whole source; see `Input.stretches`.
        transform: maps an image to pixels; None if images are not wanted.
        tokenizer: maps texts to tokens; None if texts are not wanted.
        workers: threads that decode.
        ahead: how many inputs are read ahead at most.
        decode_seconds: the time of all threads together for decoding images so far.
        num_decoded: images decoded so far, bad ones included.
        num_left_out: values of columns so far that JSON cannot hold; see `Sample.left_out`.
    """

    input: Input
    parts: Sequence[Part]
    stretches: Sequence[int]
    transform: Callable[[Any], Tensor] | None
    tokenizer: Callable[[list[str]], Tensor] | None
    workers: int
    ahead: int
    decode_seconds: float = field(default=0.0, init=False)
    num_decoded: int = field(default=0, init=False)
    num_left_out: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._caption_reader = None if self.tokenizer is None else CaptionReader(self.tokenizer)

    def read(self, position: Position = START) -> Iterator[Taken]:
        """Yield the inputs after a position, one after the other."""
        waiting: deque[Waiting] = deque()
        num_bytes = 0
        with ThreadPoolExecutor(self.workers) as threads:
            try:
                for behind, place, sample in self._samples(position):
                    row = sample if isinstance(sample, BadSample) else self._row(sample)
                    future, size = None, 0
                    if isinstance(row, BadSample):
                        sample = None
                    elif self.transform is not None:
                        future = threads.submit(self._decode, sample)
                        size = len(sample.image) if isinstance(sample.image, bytes) else 0
                    waiting.append((behind, place, row, sample, size, future))
                    num_bytes += size
                    while len(waiting) > self.ahead or num_bytes > MOST_BYTES_AHEAD:
                        num_bytes -= waiting[0][4]
                        yield self._taken(*waiting.popleft())
                while waiting:
                    yield self._taken(*waiting.popleft())
            finally:
                threads.shutdown(cancel_futures=True)

    def _samples(self, position: Position) -> Iterator[tuple[Position, Place, Sample | BadSample]]:
        first, start = position
        for number in range(first, len(self.parts)):
            for entry in self.input.source.read(self.parts[number], start):
                place = (self.stretches[number], entry.position)
                yield (number, entry.next_position), place, entry.load()
            start = None

    def _row(self, sample: Sample) -> Row | BadSample:
        if self.tokenizer is not None and not sample.caption:
            return BadSample(sample.key, NO_CAPTION)
        return self.input.row(sample)

    def _decode(self, sample: Sample) -> tuple[Tensor | BadSample, float]:
        begun = time.perf_counter()
        found = read_pixels(self.transform, sample.image, sample.key)
        return found, time.perf_counter() - begun

    def _taken(
        self, position: Position, place: Place, row: Row | BadSample, sample: Sample | None,
        size: int, future: Future | None,
    ) -> Taken:  # fmt: skip
        if sample is None:
            return Taken(position, row)
        image = tokens = None
        is_cut = False
        if future is not None:
            image, seconds = future.result()
            self.decode_seconds += seconds
            self.num_decoded += 1
            if isinstance(image, BadSample):
                return Taken(position, image)
        if self._caption_reader is not None:
            found = self._caption_reader(sample)
            if isinstance(found, BadSample):
                return Taken(position, found)
            tokens, is_cut = found
        self.num_left_out += sample.left_out
        return Taken(position, Ready(row, image, tokens, place, is_cut))
