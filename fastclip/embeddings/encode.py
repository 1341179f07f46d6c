"""The loop that encodes: features of images and of texts, batch after batch.

The loop keeps nothing. A caller that needs all features collects them; a caller that only needs a
number per image can release each batch before the next. Encoding knows nothing of trainers and of
other processes: each of several processes encodes the batches of its own loader.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastclip.models.coca.calls import captions_as
from fastclip.models.inference import InferenceModel
from fastclip.models.padding import without_padding

Images = Tensor | Sequence[Tensor]  # of one size, or of different ones for models that take them
Batches = Iterable[tuple[Images | None, Tensor | None, Sequence[str]]]


class Encoded(NamedTuple):
    """The features of a batch with its inputs; None for a side that was not encoded."""

    image_features: Tensor | None  # (B, D) float32 unit rows, on the device of the model
    text_features: Tensor | None  # the same for the texts
    images: Images | None  # (B, C, H, W) uint8, or (C, H_i, W_i) each, as in the batch
    tokens: Tensor | None  # (B, T) int64, as in the batch; labels if there are no texts
    keys: Sequence[str]  # B names of the samples; if only texts are encoded, the texts


@dataclass(frozen=True, eq=False)
class Encoder:
    """Encodes batches with a model that is in evaluation mode; no gradients are recorded.

    A batch is encoded when the caller asks for it. Samples that the loader skipped are counted in
    `PairLoader.bad_samples`, which at any moment covers the batches so far.

    Attributes:
        model: called with (B, C, H, W) images and (B, T) tokens, either of which may be None. It
            returns unit image features and unit text features first, or a dict that has them as
            `image_features` and `text_features`, as `CLIP` and `TwoTower` do.
        prepare: maps the pixels of a batch, (B, C, H, W) uint8 on the host or, for a model that
            takes images of different sizes, a list of images, to the images that the model takes,
            on its device and in its dtype.
        autocast: makes the context of a forward, a new one for each batch.
        device: the device on which the model takes tokens.
        progress: called with the number of samples of a batch as soon as the batch is encoded.

    Example: write the features of a data set of any size, one file per batch.
        >>> loader = PairLoader(
        ...     source, transform, tokenizer, batch_size=256, shuffle_buffer=1, drop_last=False
        ... )
        >>> encoder = Encoder(model.eval(), lambda images: standardize(images, mean, std))
        >>> for number, found in enumerate(encoder.pairs(loader)):
        ...     torch.save((found.keys, found.image_features), f"{number}.pt")
        >>> print(loader.bad_samples.summary())
    """

    model: nn.Module
    prepare: Callable[[Images], Any]
    autocast: Callable[[], AbstractContextManager] = nullcontext
    device: torch.device | str = "cpu"
    progress: Callable[[int], None] = lambda num: None

    @classmethod
    def of(
        cls, ready: InferenceModel, progress: Callable[[int], None] = lambda num: None
    ) -> "Encoder":
        """Return the encoder of a model that was opened for inference."""
        return cls(ready.model, ready.prepare, ready.autocast, ready.device, progress)

    def pairs(self, batches: Batches) -> Iterator[Encoded]:
        """Encode images and texts of (images, tokens, keys), such as batches of a `PairLoader`."""
        return self._stream(batches, has_images=True, has_texts=True)

    def images(self, batches: Batches) -> Iterator[Encoded]:
        """Encode the images of (images, anything, keys); the second value is passed on."""
        return self._stream(batches, has_images=True, has_texts=False)

    def tokens(self, batches: Batches) -> Iterator[Encoded]:
        """Encode the texts of (anything, tokens, keys); the first value is passed on."""
        return self._stream(batches, has_images=False, has_texts=True)

    def texts(
        self, texts: Iterable[str], tokenizer: Callable[[list[str]], Tensor], chunk: int
    ) -> Iterator[Encoded]:
        """Tokenise and encode texts, `chunk` of them at a time.

        Args:
            tokenizer: maps a list of B strings to (B, T) int64.

        Raises:
            ValueError: `chunk` < 1.
        """
        if chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {chunk}")
        return self._stream(_tokenized(texts, tokenizer, chunk), has_images=False, has_texts=True)

    @torch.no_grad()
    def _stream(self, batches: Batches, has_images: bool, has_texts: bool) -> Iterator[Encoded]:
        for images, tokens, keys in batches:
            with self.autocast():
                found = self.model(
                    self.prepare(images) if has_images else None,
                    without_padding(self.model, tokens).to(self.device) if has_texts else None,
                    **captions_as("none", self.model),
                )
            image_features, text_features = map(_in_float32, _sides(found))
            self.progress(len(image_features if has_images else text_features))
            yield Encoded(image_features, text_features, images, tokens, keys)


def _sides(found: Sequence[Tensor | None] | Mapping[str, Tensor | None]) -> Sequence[Tensor | None]:
    if isinstance(found, Mapping):
        return found["image_features"], found["text_features"]
    return found[:2]


def _in_float32(features: Tensor | None) -> Tensor | None:
    return None if features is None else features.float()


def _tokenized(
    texts: Iterable[str], tokenizer: Callable[[list[str]], Tensor], chunk: int
) -> Batches:
    remaining = iter(texts)
    while part := list(islice(remaining, chunk)):
        yield None, tokenizer(part), part
