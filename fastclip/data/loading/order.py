"""Deals parts to readers: parts are shuffled in every epoch and dealt to all workers of all ranks.

As many parts as can be dealt evenly are read whole by one reader each. The remaining parts, which
may be all of them, are shared: every reader goes over them and takes the entries whose number,
modulo the number of readers, is its own. So every reader has entries, and every entry has exactly
one reader.
"""

from typing import NamedTuple

from fastclip.data.randomness import permutation


class Share(NamedTuple):
    """The entries of a part that one reader takes: their numbers are `first` modulo `step`."""

    part: int
    first: int = 0
    step: int = 1


def deal(
    num_parts: int, reader: int, num_readers: int, seed: int, epoch: int, shuffle: bool = True
) -> list[Share]:
    """Return what `reader` of `num_readers` reads in `epoch`, in order."""
    parts = permutation(num_parts, seed, "parts", epoch) if shuffle else list(range(num_parts))
    num_whole = num_parts - num_parts % num_readers
    whole = [Share(part) for part in parts[reader:num_whole:num_readers]]
    return whole + [Share(part, reader, num_readers) for part in parts[num_whole:]]
