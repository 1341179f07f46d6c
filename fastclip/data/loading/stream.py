"""What one reader reads in one epoch: its shares in order, through a shuffle buffer.

The stream fills the buffer, draws one sample from it at random, and repeats until the buffer is
empty. A `Cursor` says where a reader stands: how far it has read, how many samples it has drawn,
and where each sample in the buffer came from. A stream that begins at a cursor reads only those
samples again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.data.loading.bad_samples import DataError
from fastclip.data.loading.order import deal
from fastclip.data.randomness import random_integer
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import Entry, Part, Source


class Address(NamedTuple):
    """Where a sample is: its part, its position there, and its number among the part's entries."""

    part: int
    position: int
    number: int


@dataclass(frozen=True)
class Reader:
    """The number of this reader among all readers, and what all of them read; picklable.

    Attributes:
        shuffle_buffer: samples in the buffer; with 1 or less, parts and samples keep their order.
    """

    source: Source
    parts: list[Part]
    index: int
    num_readers: int
    seed: int
    shuffle_buffer: int


@dataclass(frozen=True)
class Cursor:
    share: int  # index among the reader's shares
    position: int | None  # in the part of that share, None for its start
    number: int  # of the next entry of that part
    num_drawn: int
    buffer: Tensor  # (n, 3) int64: an `Address` in each row

    def to_dict(self) -> dict:
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: dict) -> "Cursor":
        return cls(**values)


START = Cursor(share=0, position=None, number=0, num_drawn=0, buffer=torch.empty((0, 3)).long())


class SampleStream:
    """The samples of one reader in one epoch, from a cursor.

    Attributes:
        num_seen: samples read, good and bad, since the stream was made or this was set to 0.

    Raises:
        DataError: a sample that was in the buffer of `cursor` can no longer be read.
    """

    def __init__(self, reader: Reader, epoch: int, cursor: Cursor = START) -> None:
        self.num_seen = 0
        self._reader = reader
        self._epoch = epoch
        self._shares = deal(
            len(reader.parts), reader.index, reader.num_readers, reader.seed, epoch,
            shuffle=reader.shuffle_buffer > 1,
        )  # fmt: skip
        self._share = cursor.share
        self._position = cursor.position
        self._number = cursor.number
        self._num_drawn = cursor.num_drawn
        self._entries: Iterator[Entry] | None = None
        addresses = [Address(*row) for row in cursor.buffer.tolist()]
        self._buffer = [(address, self._read_again(address)) for address in addresses]

    def draw(self) -> tuple[Address, Sample] | BadSample | None:
        """Return a sample, or a bad sample as soon as it is read; None at the end of the epoch."""
        while len(self._buffer) < max(self._reader.shuffle_buffer, 1):
            found = self._read()
            if isinstance(found, BadSample):
                return found
            if found is None:
                break
            self._buffer.append(found)
        if not self._buffer:
            return None
        chosen = self._draw_index(len(self._buffer))
        self._buffer[chosen], self._buffer[-1] = self._buffer[-1], self._buffer[chosen]
        self._num_drawn += 1
        return self._buffer.pop()

    def cursor(self) -> Cursor:
        """Return where the stream stands, between two draws."""
        rows = [address for address, _ in self._buffer]
        buffer = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
        return Cursor(self._share, self._position, self._number, self._num_drawn, buffer)

    def _draw_index(self, length: int) -> int:
        if length == 1:
            return 0
        reader = self._reader
        return random_integer(
            length, reader.seed, "draw", self._epoch, reader.index, reader.num_readers,
            self._num_drawn,
        )  # fmt: skip

    def _read(self) -> tuple[Address, Sample] | BadSample | None:
        """Read this reader's next entry; None at the end of all shares."""
        while self._share < len(self._shares):
            share = self._shares[self._share]
            entry = self._next_entry(share.part)
            if entry is None:
                self._begin_share(self._share + 1)
                continue
            number = self._number
            item = entry.load() if number % share.step == share.first else None
            self._number, self._position = number + 1, entry.next_position
            if isinstance(item, BadSample):
                self.num_seen += item.lost
                return item
            if item is not None:
                self.num_seen += 1
                return Address(share.part, entry.position, number), item
        return None

    def _next_entry(self, part: int) -> Entry | None:
        if self._entries is None:
            self._entries = self._reader.source.read(self._reader.parts[part], self._position)
        return next(self._entries, None)

    def _begin_share(self, share: int) -> None:
        self._share, self._position, self._number, self._entries = share, None, 0, None

    def _read_again(self, address: Address) -> Sample:
        part = self._reader.parts[address.part]
        entries = self._reader.source.read(part, address.position)
        entry = next(entries, None)
        item = None if entry is None else entry.load()
        if not isinstance(item, Sample):
            raise DataError(
                f"the run cannot resume, because {part.name} has changed: its sample at position "
                f"{address.position} is gone{'' if item is None else f' ({item.reason})'}"
            )
        return item
