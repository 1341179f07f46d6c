"""Decodes a sample into what the model takes, uint8 pixels and tokens, or says why it cannot."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastclip.data.images import ImageError
from fastclip.data.loading.captions import CaptionReader, Tokens
from fastclip.data.loading.image_cache import CachePart
from fastclip.data.loading.returned import require_tensor
from fastclip.data.loading.stream import Address
from fastclip.data.randomness import seed_generators
from fastclip.data.sources.samples import BadSample, Sample


@dataclass(frozen=True)
class Decoder:
    """Decodes samples, with random numbers that depend on the sample, the epoch and the seed only.

    Attributes:
        transform: maps a PIL image, a path or the bytes of a file to (C, H, W) uint8. With None,
            images must already be such tensors and are used as they are. Random numbers that the
            transform draws from the global generators of torch, Python and numpy are reproducible.
        tokenizer: maps a list of B strings to (B, T) int64.
        kept: decoded images that need not be decoded again, or None; it changes no pixel.
        any_size: whether images may keep different sizes, as NaFlex models allow.
    """

    transform: Callable[[Any], Tensor] | None
    tokenizer: Callable[[list[str]], Tensor]
    seed: int
    kept: CachePart | None = None
    any_size: bool = False

    @cached_property
    def _caption_reader(self) -> CaptionReader:
        return CaptionReader(self.tokenizer)

    def __call__(
        self, sample: Sample, address: Address, epoch: int
    ) -> tuple[Tensor, Tokens] | BadSample:
        """Return (C, H, W) uint8 pixels and the tokens. Seeds the global generators.

        Raises:
            TypeError: the transform or the tokenizer returns something else.
        """
        seed_generators(self.seed, "decode", epoch, address.part, address.number)
        transform = self.transform
        if self.kept is not None:
            transform = partial(self.kept.transform, address, transform)
        pixels = read_pixels(transform, sample.image, sample.key)
        if isinstance(pixels, BadSample):
            return pixels
        tokens = self._caption_reader(sample)
        return tokens if isinstance(tokens, BadSample) else (pixels, tokens)


def keeps_sizes(transform: Any) -> bool:
    """Return whether a transform of `fastclip.data.preprocess` keeps images at different sizes.

    Any other transform is assumed to return images of one size.
    """
    return getattr(getattr(transform, "cfg", None), "patches", None) is not None


def read_pixels(
    transform: Callable[[Any], Tensor] | None, image: Any, key: str
) -> Tensor | BadSample:
    """Return the (C, H, W) uint8 pixels of an image, or a bad sample with the reason.

    Args:
        transform: see `Decoder`.
        image: a file's path or bytes, a PIL image, or (C, H, W) uint8 pixels.
        key: the name of the image in messages.

    Raises:
        TypeError: the transform returns something else.
    """
    # A transform may raise anything on an image that it was not made for. A transform that raises
    # on every image shows in the rate of bad samples, and in their details.
    try:
        if transform is None:
            pixels = image
        else:
            pixels = transform(_to_pil(image) if isinstance(image, Tensor) else image)
    except ImageError as error:
        return BadSample(key, "unusable image", str(error))
    except FileNotFoundError as error:
        return BadSample(key, "missing image file", str(error))
    except Exception as error:
        return BadSample(key, "unusable image", f"{type(error).__name__}: {error}")
    require_tensor(pixels, "transform", torch.uint8, 3)
    return pixels


def _to_pil(pixels: Tensor) -> Image.Image:
    array = pixels.numpy()
    return Image.fromarray(array[0] if len(array) == 1 else np.moveaxis(array, 0, -1).copy())
