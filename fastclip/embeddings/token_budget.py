"""Encodes images of different sizes in batches of a bounded number of tokens."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastclip.data.loading.decoding import read_pixels
from fastclip.data.loading.token_budget import NO_PADDING, Padding, TokenBudgetSampler
from fastclip.data.sources.samples import BadSample
from fastclip.embeddings.encode import Encoder
from fastclip.models.inference import InferenceModel

MAX_TOKENS = 16384
MOST_READERS = 8  # threads; each may hold an image of 683 MiB (see `load_image`)


def require_budget(ready: InferenceModel, max_tokens: int) -> None:
    """Raise unless a model takes images of different sizes, and each fits into the budget.

    Raises:
        ValueError: the model takes images of one size, or an image may have more than `max_tokens`.
    """
    most = ready.preprocess_cfg.get("max_num_patches")
    if most is None:
        raise ValueError(
            f"max_tokens must be None, because {ready.name} takes images of one size, which need "
            f"no budget of tokens, got {max_tokens}"
        )
    if max_tokens < most:
        raise ValueError(
            f"max_tokens must be at least {most}, the most tokens of one image, got {max_tokens}"
        )


def sampler_of(
    ready: InferenceModel, images: Sequence[Tensor], max_tokens: int
) -> TokenBudgetSampler:
    """Return a sampler of batches of (C, H_i, W_i) images, from the longest to the shortest."""
    side = ready.preprocess_cfg["patch_size"]
    lengths = [image.shape[1] // side * (image.shape[2] // side) for image in images]
    return TokenBudgetSampler(lengths, max_tokens, shuffle=False)


def features_within(
    ready: InferenceModel, encoder: Encoder, images: Sequence[Tensor], max_tokens: int
) -> tuple[Tensor, Padding]:
    """Encode (C, H_i, W_i) images in batches of at most `max_tokens` tokens each.

    Returns:
        (B, D) float32 unit rows in the order of the images, on the device of the model, and the
        cost of the batches.
    """
    sampler = sampler_of(ready, images, max_tokens)
    batches = list(sampler)
    given = [([images[i] for i in batch], None, ()) for batch in batches]
    features = torch.cat([found.image_features for found in encoder.images(given)])
    order = torch.tensor([i for batch in batches for i in batch], device=features.device)
    return torch.empty_like(features).index_copy_(0, order, features), sampler.padding()


class BudgetedBatch(NamedTuple):
    numbers: list[int]  # n numbers of the images, in the order of the input
    features: Tensor  # (n, D) float32 unit rows, on the device of the model


@dataclass
class TokenBudgetEncoder:
    """Encodes images with a NaFlex model, in batches of images with similar numbers of patches.

    Images are read in pools, which are sorted by their numbers of patches: a batch has at most
    `max_tokens` tokens, and few of them are padding. Features come in the order of the batches.

    Attributes:
        ready: the model; the `resize_mode` of its images must be "naflex".
        max_tokens: the most tokens of a batch, padding included.
        pool_size: images that are read and sorted at a time; a pool of 1024 images of 256 patches
            of 16 x 16 pixels takes 192 MiB.
        progress: called with the number of images of a batch as soon as the batch is encoded.
        skipped: the images so far that could not be used, each with the reason; `key` is the path,
            or "image" and a number.
        padding: the cost of the batches so far, including the one that was just yielded.

    Raises:
        ValueError: the model takes images of one size, or `max_tokens` or `pool_size` is too small.

    Example:
        >>> encoder = TokenBudgetEncoder(open_model("hf-hub:google/siglip2-base-patch16-naflex"))
        >>> features = {}
        >>> for batch in encoder.images(paths):
        ...     features |= dict(zip(batch.numbers, batch.features))
        >>> print(encoder.padding.report(), len(encoder.skipped), "were skipped")
    """

    ready: InferenceModel
    max_tokens: int = MAX_TOKENS
    pool_size: int = 1024
    progress: Callable[[int], None] = lambda num: None
    skipped: list[BadSample] = field(default_factory=list, init=False)
    padding: Padding = field(default=NO_PADDING, init=False)

    def __post_init__(self) -> None:
        require_budget(self.ready, self.max_tokens)
        if self.pool_size < 1:
            raise ValueError(f"pool_size must be at least 1, got {self.pool_size}")

    def images(self, images: Iterable[Any]) -> Iterator[BudgetedBatch]:
        """Encode images, each a path, the bytes of a file or a PIL image."""
        encoder = Encoder.of(self.ready, self.progress)
        remaining = enumerate(images)
        with ThreadPoolExecutor(min(MOST_READERS, os.cpu_count() or 1)) as readers:
            while pool := list(islice(remaining, self.pool_size)):
                found = list(zip(pool, readers.map(self._read, pool), strict=True))
                self.skipped += [pixels for _, pixels in found if isinstance(pixels, BadSample)]
                good = [(n, pixels) for (n, _), pixels in found if isinstance(pixels, Tensor)]
                sampler = sampler_of(self.ready, [pixels for _, pixels in good], self.max_tokens)
                for batch in sampler:
                    numbers, pixels = zip(*(good[i] for i in batch), strict=True)
                    (encoded,) = encoder.images([(pixels, None, ())])
                    self.padding = self.padding.plus(sampler.padding_of(batch))
                    yield BudgetedBatch(list(numbers), encoded.image_features)

    def _read(self, numbered: tuple[int, Any]) -> Tensor | BadSample:
        number, image = numbered
        is_path = isinstance(image, str | os.PathLike)
        name = os.fsdecode(image) if is_path else f"image {number}"
        return read_pixels(self.ready.transform, image, name)
