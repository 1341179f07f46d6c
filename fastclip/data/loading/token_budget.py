"""Batches of images of different sizes, each within a budget of tokens, and the cost of padding.

A batch is padded to its longest image: B images of at most S patches cost B * S tokens, some of
which are padding. The sampler puts images with similar numbers of patches into one batch, so that
there is little padding; a batch of short images has more of them.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch.utils.data import Sampler

from fastclip.data.randomness import permutation


class Padding(NamedTuple):
    """The cost of batches, padding included.

    Attributes:
        num_images: images in all batches.
        num_batches: how many batches there are.
        num_patches: patches of all images.
        num_tokens: tokens that are computed: `num_patches` and the padding.
    """

    num_images: int
    num_batches: int
    num_patches: int
    num_tokens: int

    @classmethod
    def of(cls, num_patches: Sequence[int]) -> "Padding":
        """Return the cost of one batch.

        Args:
            num_patches: the number of patches of each image of the batch; at least one image.

        Example:
            >>> Padding.of([4, 2])
            Padding(num_images=2, num_batches=1, num_patches=6, num_tokens=8)
        """
        num = len(num_patches)
        return cls(num, 1, sum(num_patches), num * max(num_patches))

    @property
    def fraction(self) -> float:
        """The fraction of the tokens that is padding, in [0, 1)."""
        return 1 - self.num_patches / self.num_tokens if self.num_tokens else 0.0

    def plus(self, other: "Padding") -> "Padding":
        """Return the cost of both together."""
        return Padding(*map(sum, zip(self, other, strict=True)))

    def report(self) -> str:
        """Return the cost as a sentence."""
        return (
            f"{self.num_images:,} images in {self.num_batches:,} batches have "
            f"{self.num_patches:,} patches; with padding they are {self.num_tokens:,} tokens, "
            f"{self.fraction:.1%} of them padding"
        )


NO_PADDING = Padding(0, 0, 0, 0)


class TokenBudgetSampler(Sampler[list[int]]):
    """Yields the numbers of the images of each batch: a `batch_sampler` for a `DataLoader`.

    Every image is in one batch of an epoch. The batches depend only on the arguments, the seed and
    the epoch.

    Args:
        num_patches: the number of patches of each image, as `num_patches_of` returns it.
        max_tokens: the most tokens of a batch, padding included: the number of its images times
            the largest number of their patches.
        shuffle: draw a random order. With False the images come from the longest to the shortest,
            which needs the least padding, and the first batch shows whether the memory suffices.
        seed: the seed of the order.
        pool_size: images that are drawn at a time and sorted among themselves: a larger pool needs
            less padding, a smaller one mixes more. Without effect if `shuffle` is False.
        max_images: the most images of a batch; with None, only `max_tokens` limits a batch.
        rank, world_size: the number of this process and how many there are. They take the batches
            in turns, so that one may have a batch more than another.

    Attributes:
        epoch: the epoch of the next batches; see `set_epoch`.

    Raises:
        ValueError: an image has no patch or more than `max_tokens`, or a number is out of its
            range.

    Example:
        >>> sampler = TokenBudgetSampler(num_patches, max_tokens=16384, seed=0)
        >>> print(sampler.padding().report())
        >>> collate = functools.partial(collate_patches, patch_size=16)
        >>> loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate)
        >>> for epoch in range(epochs):
        ...     sampler.set_epoch(epoch)
        ...     for batch in loader:
        ...         features = model.encode_image(batch)
    """

    def __init__(
        self,
        num_patches: Sequence[int],
        max_tokens: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        pool_size: int = 4096,
        max_images: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        numbers = {"pool_size": pool_size, "world_size": world_size}
        numbers |= {} if max_images is None else {"max_images": max_images}
        for name, value in numbers.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be from 0 to {world_size - 1}, got {rank}")
        for number, length in enumerate(num_patches):
            if not 1 <= length <= max_tokens:
                raise ValueError(
                    f"num_patches must be from 1 to max_tokens = {max_tokens}, got {length} for "
                    f"image {number}"
                )
        self.num_patches = list(num_patches)
        self.max_tokens, self.max_images = max_tokens, max_images
        self.shuffle, self.seed, self.pool_size = shuffle, seed, pool_size
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self._made: tuple[int, list[list[int]]] | None = None  # the epoch's batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next batches, as with torch's `DistributedSampler`."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches()[self.rank :: self.world_size])

    def __len__(self) -> int:
        """Return the number of batches of this rank in the epoch."""
        return math.ceil((len(self._batches()) - self.rank) / self.world_size)

    def padding(self) -> Padding:
        """Return the cost of the epoch's batches, over all ranks."""
        costs = [self.padding_of(batch) for batch in self._batches()]
        return Padding(*map(sum, zip(NO_PADDING, *costs, strict=True)))

    def padding_of(self, batch: Sequence[int]) -> Padding:
        """Return the cost of one batch, given the numbers of its images."""
        return Padding.of([self.num_patches[i] for i in batch])

    def _batches(self) -> list[list[int]]:
        if self._made is None or self._made[0] != self.epoch:
            self._made = self.epoch, self._make()
        return self._made[1]

    def _make(self) -> list[list[int]]:
        if not self.shuffle:
            return self._cut(range(len(self.num_patches)))
        drawn = permutation(len(self.num_patches), self.seed, "images", self.epoch)
        pools = (drawn[i : i + self.pool_size] for i in range(0, len(drawn), self.pool_size))
        batches = [batch for pool in pools for batch in self._cut(pool)]
        order = permutation(len(batches), self.seed, "batches", self.epoch)
        return [batches[i] for i in order]

    def _cut(self, numbers: Sequence[int]) -> list[list[int]]:
        """Sort images by length, the longest first, and cut them into batches."""
        batches: list[list[int]] = []
        room = 0
        for number in sorted(numbers, key=lambda i: -self.num_patches[i]):
            if room == 0:
                batches.append([])
                room = self.max_tokens // self.num_patches[number]
                room = room if self.max_images is None else min(room, self.max_images)
            batches[-1].append(number)
            room -= 1
        return batches
