"""Images of different sizes encoded in batches of a bounded number of tokens."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from torch import Tensor

from fastclip.data.loading.decoding import read_pixels
from fastclip.data.loading.token_budget import Padding, TokenBudgetSampler
from fastclip.data.sources.samples import BadSample
from fastclip.embeddings.encode import Encoder
from fastclip.models.inference import InferenceModel

MAX_TOKENS = 16384
MOST_READERS = 8  # threads; each may hold an image of 683 MiB (see `load_image`)


class BudgetedBatch(NamedTuple):
    numbers: list[int]  # n places of the images in what was given
    features: Tensor  # (n, D) float32 unit rows, on the device of the model


@dataclass
class TokenBudgetEncoder:
    """Encodes images of a NaFlex model, of about as many patches each in a batch.

    Images are read in pools, which are sorted by their numbers of patches: a batch costs no more
    than `max_tokens`, and little of it is padding. Features come in the order of the batches.

    Attributes:
        ready: the model; `resize_mode` of its images is "naflex".
        max_tokens: of a batch, padding included.
        pool_size: images that are read and sorted at a time; a pool of 1024 images of 256 patches
            of 16 x 16 pixels takes 192 MiB.
        progress: called with the number of its images as soon as a batch is encoded.
        skipped: the images so far that could not be used, each with its reason; `key` is its path,
            or "image" and its number.
        padding: what the batches so far cost.

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
    padding: Padding = field(default=Padding(0, 0, 0, 0), init=False)

    def __post_init__(self) -> None:
        most = self.ready.preprocess_cfg.get("max_num_patches")
        if most is None:
            raise ValueError(
                f"{self.ready.name} takes images of one size: they need no budget of tokens"
            )
        for name, least in (("max_tokens", most), ("pool_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def images(self, images: Iterable[Any]) -> Iterator[BudgetedBatch]:
        """Encode images, each a path, the bytes of a file or a PIL image."""
        encoder = Encoder.of(self.ready, self.progress)
        side = self.ready.preprocess_cfg["patch_size"]
        remaining = enumerate(images)
        with ThreadPoolExecutor(min(MOST_READERS, os.cpu_count() or 1)) as readers:
            while pool := list(islice(remaining, self.pool_size)):
                found = list(zip(pool, readers.map(self._read, pool), strict=True))
                self.skipped += [pixels for _, pixels in found if isinstance(pixels, BadSample)]
                good = [(n, pixels) for (n, _), pixels in found if isinstance(pixels, Tensor)]
                lengths = [p.shape[1] // side * (p.shape[2] // side) for _, p in good]
                sampler = TokenBudgetSampler(lengths, self.max_tokens, shuffle=False)
                for batch in sampler:
                    numbers, pixels = zip(*(good[i] for i in batch), strict=True)
                    (encoded,) = encoder.images([(pixels, None, ())])
                    yield BudgetedBatch(list(numbers), encoded.image_features)
                both = zip(self.padding, sampler.padding(), strict=True)
                self.padding = Padding(*map(sum, both))

    def _read(self, numbered: tuple[int, Any]) -> Tensor | BadSample:
        number, image = numbered
        is_path = isinstance(image, str | os.PathLike)
        name = os.fsdecode(image) if is_path else f"image {number}"
        return read_pixels(self.ready.transform, image, name)
