"""The contract of a source: it lists its parts, and reads one part on from a position.

A part is what one worker reads in one go: a shard, or some rows of a table. A position is an
integer that only its source understands (a byte offset, a row number) and that grows within a
part. Reading on from the `next_position` of an entry gives the entries that would have followed,
so that a position in a checkpoint is all that a resumed run needs.

A source is a description: small, picklable, without open files. Its contents tell whether another
one has the same samples, of which positions are then good for both.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from fastclip.data.sources.file_stamp import stamp_of_files
from fastclip.data.sources.samples import BadSample, Sample

END = 2**63 - 1  # the position behind the last entry, where a source knows that it is the last
SAMPLES_PER_PART = 64  # few, so that shuffling parts is nearly shuffling samples


Contents = list[tuple[str, str]]  # what there is, by name, and what it is known by
Place = tuple[int, int]  # of a sample: its stretch, see `stretches`, and its position there


class Part(NamedTuple):
    name: str
    start: int = 0  # position of the first entry
    stop: int = END  # entries at this position and later belong to other parts
    num_samples: int | None = None  # bad ones included; None if only reading would tell


class Entry(NamedTuple):
    position: int
    next_position: int
    load: Callable[[], Sample | BadSample]  # to be called before the next entry is asked for


def stretches(parts: Sequence[Part]) -> list[int]:
    """Return the number of each part's stretch, from 0: parts that follow each other share one.

    Stretch and position name a sample, and grow in the order of the source, in whatever parts that
    is read: all rows of a table are one stretch, and every shard is its own.

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
    """Pairs of images and captions. What is wrong with the data never raises, once it is open."""

    @abstractmethod
    def parts(self) -> list[Part]:
        """Return the parts, always the same in the same order; at least one."""

    @abstractmethod
    def read(self, part: Part, position: int | None = None) -> Iterator[Entry]:
        """Yield the entries of a part from `position`, by default from its start; none from END."""

    def num_samples(self) -> int | None:
        """Return the number of samples, bad ones included; None if it is not known."""
        sizes = [part.num_samples for part in self.parts()]
        return None if None in sizes else sum(sizes)

    def skipped(self) -> dict[str, int]:
        """Return how many files, known by now, are no part of a sample, by suffix or reason."""
        return {}

    def contents(self) -> Contents:
        """Return what the samples are made of: the same for the same samples, wherever they are.

        Files are known by what `file_marks.py` reads of them, which is little.
        """
        return [
            (os.path.basename(part.name), f"positions {part.start} to {part.stop}")
            for part in self.parts()
        ]

    def files(self) -> Iterator[str]:
        """Yield the paths of all files that samples are made of, images that a table names too.

        By default these are the names of the parts; what is the name of no file does not count.
        """
        yield from dict.fromkeys(part.name for part in self.parts())

    def stamp(self) -> str:
        """Return what is the same until one of `files` is written again, even with the same bytes.

        It is "" where there are no files. A copy has the same `contents` and another stamp, which
        tells whether what was begun with files of this machine may go on with them.
        """
        return stamp_of_files(self.files())


class IndexedSource(Source):
    """A source whose samples are numbered, and which can load any of them."""

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
        classes: their places are the labels.
    """

    classes: list[str]
