"""What is searched for as vectors: texts and images, as (n, D) float32 unit vectors of a model."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from fastclip.data.loading.decoding import read_pixels
from fastclip.data.patches import stacked
from fastclip.data.sources.samples import BadSample
from fastclip.embeddings.encode import Encoder
from fastclip.models.inference import InferenceModel
from fastclip.search.query import QueryError

BATCH = 64  # texts or images that are encoded at a time


def vectors_of_texts(
    ready: InferenceModel, texts: Sequence[str], progress: Callable[[int], None] = lambda num: None
) -> np.ndarray:
    """Encode texts.

    Args:
        progress: called with how many more texts are encoded.
    """
    encoder = Encoder.of(ready, progress)
    found = encoder.texts(texts, ready.tokenizer, BATCH)
    return _stacked([batch.text_features for batch in found])


def told_apart(ready: InferenceModel, texts: Sequence[str]) -> list[str]:
    """Return the first of all texts that the tokenizer of a model turns into the same tokens."""
    first: dict[tuple[int, ...], str] = {}
    for row, text in zip(ready.tokenizer(list(texts)).tolist(), texts, strict=True):
        first.setdefault(tuple(row), text)
    return list(first.values())


def vectors_of_images(ready: InferenceModel, images: Sequence[str | Path | bytes]) -> np.ndarray:
    """Encode images, each a path or the bytes of a file.

    Raises:
        QueryError: one cannot be read, or is no image; the message has its path.
    """
    encoder = Encoder.of(ready)
    features = []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        pixels = stacked([_pixels(ready, image) for image in part])
        features += [found.image_features for found in encoder.images([(pixels, None, [])])]
    return _stacked(features)


def _pixels(ready: InferenceModel, image: str | Path | bytes) -> torch.Tensor:
    name = "the image" if isinstance(image, bytes) else str(image)
    found = read_pixels(ready.transform, image, name)
    if isinstance(found, BadSample):
        detail = found.detail.removeprefix(f"{name}: ")
        raise QueryError(f"{name} cannot be searched for: {found.reason}: {detail}")
    return found


def _stacked(features: list[torch.Tensor]) -> np.ndarray:
    return torch.cat(features).cpu().numpy()
