"""Batches of images of different sizes, each within a budget of tokens, and what padding costs.

A batch of images is padded to the longest of them: B images of at most S patches cost B * S tokens,
of which some are padding. Images of about as many patches come into one batch, so that little is
padded, and a batch of short ones has more images.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch.utils.data import Sampler

from fastclip.data.randomness import permutation


class Padding(NamedTuple):
    """What batches cost.

    Attributes:
        num_images: in all batches.
        num_batches: how many.
        num_patches: of the images.
        num_tokens: that are computed: `num_patches`, and the padding.
    """

    num_images: int
    num_batches: int
    num_patches: int
    num_tokens: int

    @classmethod
    def of(cls, num_patches: Sequence[int]) -> "Padding":
        """Return what one batch costs.

        Args:
            num_patches: of each of its images, of which there is at least one.

        Example:
            >>> Padding.of([4, 2])
            Padding(num_images=2, num_batches=1, num_patches=6, num_tokens=8)
        """
        num = len(num_patches)
        return cls(num, 1, sum(num_patches), num * max(num_patches))

    @property
    def fraction(self) -> float:
        """The part of the tokens that is padding, in [0, 1)."""
        return 1 - self.num_patches / self.num_tokens if self.num_tokens else 0.0

    def plus(self, other: "Padding") -> "Padding":
        """Return what both cost together."""
        return Padding(*map(sum, zip(self, other, strict=True)))

    def report(self) -> str:
        """Return a sentence."""
        return (
            f"{self.num_images:,} images in {self.num_batches:,} batches have "
            f"{self.num_patches:,} patches; padding makes them {self.num_tokens:,} tokens, of "
            f"which it is {self.fraction:.1%}"
        )


NO_PADDING = Padding(0, 0, 0, 0)


class TokenBudgetSampler(Sampler[list[int]]):
    """Gives the numbers of the images of each batch: a `batch_sampler` of a `DataLoader`.

    Every image is in one batch of an epoch. The batches depend on the arguments, the seed and the
    epoch alone.

    Args:
        num_patches: of each image, as `num_patches_of` tells it.
        max_tokens: of a batch, padding included: the number of its images times the largest number
            of their patches is not more.
        shuffle: draw the order; False takes the images from the longest to the shortest, which pads
            least and shows at the first batch whether memory suffices.
        seed: of the order.
        pool_size: images that are drawn at a time and sorted among themselves: more pad less, fewer
            mix more. Without effect if not `shuffle`.
        max_images: of a batch; None leaves it to `max_tokens`.
        rank, world_size: which of how many processes this is. They take the batches in turns, so
            that one may have a batch more than another.

    Attributes:
        epoch: of the batches that come next; see `set_epoch`.

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
                    f"num_patches must be from 1 to max_tokens = {max_tokens}, got {length} of "
                    f"image {number}"
                )
        self.num_patches = list(num_patches)
        self.max_tokens, self.max_images = max_tokens, max_images
        self.shuffle, self.seed, self.pool_size = shuffle, seed, pool_size
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self._made: tuple[int, list[list[int]]] | None = None  # the epoch's batches

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch's batches come next, as with torch's `DistributedSampler`."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches()[self.rank :: self.world_size])

    def __len__(self) -> int:
        """Return the number of batches of this rank in the epoch."""
        return math.ceil((len(self._batches()) - self.rank) / self.world_size)

    def padding(self) -> Padding:
        """Return what the batches of the epoch cost, those of all ranks together."""
        costs = [self.padding_of(batch) for batch in self._batches()]
        return Padding(*map(sum, zip(NO_PADDING, *costs, strict=True)))

    def padding_of(self, batch: Sequence[int]) -> Padding:
        """Return what one batch costs, of images by their numbers."""
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
