"""The contract of a source: it lists its parts, and reads a part from any position on.

A part is what one worker reads in one go: a shard, or some rows of a table. A position is an
integer that only its source understands (a byte offset, a row number) and that grows within a
part. Reading from the `next_position` of an entry gives the entries that would have followed, so
that a position in a checkpoint is all that a resumed run needs.

A source is a description: small, picklable, without open files. Two sources with equal contents
have the same samples, and a position is valid for both.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from fastclip.data.sources.file_stamp import stamp_of_files
from fastclip.data.sources.samples import BadSample, Sample

END = 2**63 - 1  # the position after the last entry, if a source knows that it is the last
SAMPLES_PER_PART = 64  # few, so that shuffling parts is nearly shuffling samples


Contents = list[tuple[str, str]]  # names of what a source has, and the mark of each
Place = tuple[int, int]  # where a sample is: its stretch, see `stretches`, and its position there


class Part(NamedTuple):
    name: str
    start: int = 0  # position of the first entry
    stop: int = END  # entries at this position and later belong to other parts
    num_samples: int | None = None  # bad ones included; None if only reading would tell


class Entry(NamedTuple):
    position: int
    next_position: int
    load: Callable[[], Sample | BadSample]  # must be called before the next entry is read


def stretches(parts: Sequence[Part]) -> list[int]:
    """Return the number of each part's stretch, from 0.

    A stretch is a range of positions that parts share if they follow each other: all rows of a
    table are one stretch, and every shard is its own. Stretch and position together identify a
    sample, and grow in the order of the source, whatever its division into parts.

    Example:
        >>> stretches([Part("t.csv", 0, 90), Part("t.csv", 90, 170)])
        [0, 0]
        >>> stretches([Part("0.tar"), Part("1.tar")])
        [0, 1]
    """
    found = [0] * len(parts)
    for i in range(1, len(parts)):
        found[i] = found[i - 1] + (parts[i].start < parts[i - 1].stop)
    return found


def first_numbers(parts: Sequence[Part]) -> list[int] | None:
    """Return for each part the number of its first sample in the source, from 0.

    None if a part does not say how many samples it has.

    Example:
        >>> first_numbers([Part("t.csv", 0, 90, 3), Part("t.csv", 90, 170, 2)])
        [0, 3]
    """
    sizes = [part.num_samples for part in parts]
    return None if None in sizes else list(accumulate(sizes, initial=0))[:-1]


class Source(ABC):
    """Pairs of images and captions. Once open, a source never raises for bad data."""

    @abstractmethod
    def parts(self) -> list[Part]:
        """Return the parts, always the same in the same order; at least one."""

    @abstractmethod
    def read(self, part: Part, position: int | None = None) -> Iterator[Entry]:
        """Yield the entries of a part from `position` on, by default all; none from END on."""

    def num_samples(self) -> int | None:
        """Return the number of samples, bad ones included; None if it is not known."""
        sizes = [part.num_samples for part in self.parts()]
        return None if None in sizes else sum(sizes)

    def skipped(self) -> dict[str, int]:
        """Return how many files are known so far to belong to no sample, by suffix or reason."""
        return {}

    def contents(self) -> Contents:
        """Return marks of the data: the same for the same samples, wherever they are stored.

        `file_marks.py` makes the marks of files, of which it reads only little.
        """
        return [
            (os.path.basename(part.name), f"positions {part.start} to {part.stop}")
            for part in self.parts()
        ]

    def files(self) -> Iterator[str]:
        """Yield the paths of all files that samples come from, including images a table names.

        By default these are the names of the parts; names that are not files do not count.
        """
        yield from dict.fromkeys(part.name for part in self.parts())

    def stamp(self) -> str:
        """Return a stamp that changes when one of `files` is written, even with the same bytes.

        The stamp is "" if there are no files. A copy has the same `contents` but another stamp: it
        decides whether a job that began with the files of this machine may go on with them.
        """
        return stamp_of_files(self.files())


class IndexedSource(Source):
    """A source whose samples are numbered, and which can load any of them directly."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples, bad ones included."""

    @abstractmethod
    def load(self, index: int) -> Sample | BadSample: ...

    def parts(self) -> list[Part]:
        starts = range(0, len(self), SAMPLES_PER_PART)
        stops = [min(start + SAMPLES_PER_PART, len(self)) for start in starts]
        return [
            Part(type(self).__name__, start, stop, stop - start)
            for start, stop in zip(starts, stops, strict=True)
        ]

    def read(self, part: Part, position: int | None = None) -> Iterator[Entry]:
        for i in range(part.start if position is None else position, part.stop):
            yield Entry(i, i + 1, partial(self.load, i))


class LabeledSource(IndexedSource):
    """An indexed source of images to be classified; the caption of each is its class.

    Attributes:
        classes: names of the classes; the index of a class in this list is its label.
    """

    classes: list[str]
