"""Encode the texts and images of queries as (n, D) float32 unit vectors."""

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
    """Return the (n, D) float32 unit vectors of texts.

    Args:
        ready: the model.
        texts: n texts.
        progress: called after each batch with the number of texts in it.
    """
    encoder = Encoder.of(ready, progress)
    found = encoder.texts(texts, ready.tokenizer, BATCH)
    return _stacked([batch.text_features for batch in found])


def told_apart(ready: InferenceModel, texts: Sequence[str]) -> list[str]:
    """Return texts with distinct tokens: of texts with the same tokens only the first."""
    first: dict[tuple[int, ...], str] = {}
    for row, text in zip(ready.tokenizer(list(texts)).tolist(), texts, strict=True):
        first.setdefault(tuple(row), text)
    return list(first.values())


def vectors_of_images(ready: InferenceModel, images: Sequence[str | Path | bytes]) -> np.ndarray:
    """Return the (n, D) float32 unit vectors of images, each a path or the bytes of a file.

    Raises:
        QueryError: a file cannot be read or is not an image; the message has its path.
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
