"""Encode a set in one pass, and return its features in an order that does not depend on workers.

A loader with several workers returns batches in another order than a loader without. Samples are
therefore sorted by their keys after encoding, so that the same number means the same image in every
evaluation of the set.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fastclip.data.loading.bad_samples import BadSamples
from fastclip.data.loading.loader import Batch
from fastclip.data.quoting import some_of
from fastclip.data.sources.source import Source
from fastclip.embeddings.encode import Encoder
from fastclip.evaluate.items import digests, distinct, first_of_each

NAMED = 5  # keys in a message


class Loader(Protocol):
    """The part of `PairLoader` that encoding uses."""

    @property
    def bad_samples(self) -> BadSamples: ...

    def __iter__(self) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class LabelledFeatures:
    """The features of labelled images.

    Attributes:
        image_features: (N, D) float32 unit rows, on the host.
        labels: (N,) int64.
        keys: N names of the images, sorted, without the folder of the data.
        bad: the samples that could not be read.
    """

    image_features: Tensor
    labels: Tensor
    keys: list[str]
    bad: BadSamples


@dataclass(frozen=True)
class PairFeatures:
    """The features of pairs.

    Attributes:
        image_features: (M, D) float32 unit rows, on the host, one for each different image.
        text_features: (N, D), one for each caption.
        text_to_image: (N,) int64, in [0, M): the image of each caption.
        captions: N digests of the captions' tokens; captions with equal tokens are one text.
        keys: N names of the pairs, sorted, without the folder of the data.
        bad: the samples that could not be read.
    """

    image_features: Tensor
    text_features: Tensor
    text_to_image: Tensor
    captions: list[str]
    keys: list[str]
    bad: BadSamples


def encode_labelled(encoder: Encoder, loader: Loader, source: Source) -> LabelledFeatures:
    """Encode labelled images.

    Args:
        encoder: the encoder of the model.
        loader: one epoch of `source`, with (B, 1) labels for tokens.
        source: the images.

    Raises:
        DataError: too many samples are bad.
        ValueError: there is no good sample, or two samples have the same key.
    """
    features, labels, keys = [], [], []
    for found in encoder.images(loader):
        features.append(found.image_features.cpu())
        labels.append(found.tokens.flatten())
        keys.extend(found.keys)
    _require(keys, loader)
    keys, order = _sorted(keys, source)
    return LabelledFeatures(
        torch.cat(features)[order], torch.cat(labels)[order], keys, loader.bad_samples
    )


def encode_pairs(encoder: Encoder, loader: Loader, source: Source) -> PairFeatures:
    """Encode pairs, each different image and each different caption once.

    Pairs whose images have the same pixels share an image. Encoding equal captions once makes their
    features equal; batches of different sizes would round them differently.

    Args:
        encoder: the encoder of the model.
        loader: one epoch of `source`.
        source: the pairs.

    Raises:
        DataError: too many samples are bad.
        ValueError: there is no good sample, or two samples have the same key.
    """
    keys: list[str] = []
    images, texts = _Distinct(), _Distinct()
    image_features, text_features = [], []
    for batch in loader:
        keys.extend(batch.keys)
        new = batch._replace(
            images=images.not_seen(batch.images), tokens=texts.not_seen(batch.tokens)
        )
        if len(new.images):
            image_features += [found.image_features.cpu() for found in encoder.images([new])]
        if len(new.tokens):
            text_features += [found.text_features.cpu() for found in encoder.tokens([new])]
    _require(keys, loader)
    keys, order = _sorted(keys, source)
    image_of = distinct(images.ids)[order]  # numbers in the order in which images were encoded
    text_of = distinct(texts.ids)[order]
    first = first_of_each(distinct(image_of))
    return PairFeatures(
        torch.cat(image_features)[image_of[first]], torch.cat(text_features)[text_of],
        distinct(image_of), [texts.ids[i].hex() for i in order.tolist()], keys, loader.bad_samples,
    )  # fmt: skip


class _Distinct:
    """Finds rows, batch after batch, that do not equal an earlier row.

    Attributes:
        ids: digests of all rows so far.
    """

    def __init__(self) -> None:
        self.ids: list[bytes] = []
        self._seen: set[bytes] = set()

    def not_seen(self, rows: Tensor) -> Tensor:
        """Return the rows of a (B, ...) batch that do not equal any row before them."""
        is_new = []
        for name in digests(rows):
            is_new.append(name not in self._seen)
            self._seen.add(name)
            self.ids.append(name)
        return rows[torch.tensor(is_new)]


def _require(keys: list[str], loader: Loader) -> None:
    if not keys:
        raise ValueError(f"no sample can be used: {loader.bad_samples.report()}")


def without_place(keys: list[str], source: Source) -> list[str]:
    """Return keys of samples without the deepest folder that contains all parts of their source.

    If two shards in different folders have the same name, their keys begin with the rest of the
    path, which distinguishes the shards.
    """
    folders = [part.name.split("/")[:-1] for part in source.parts()]
    place = "".join(f"{name}/" for name in os.path.commonprefix(folders))
    return [key.removeprefix(place) for key in keys]


def _sorted(keys: list[str], source: Source) -> tuple[list[str], Tensor]:
    """Return keys without the folder of the data, sorted; and the order that sorts them.

    Raises:
        ValueError: two keys are the same, so that their order would depend on loading.
    """
    keys = without_place(keys, source)
    if repeated := [key for key, number in Counter(keys).items() if number > 1]:
        raise ValueError(
            "samples must have different names to be distinguished, but several are called "
            + some_of(repeated, NAMED)
        )
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return [keys[i] for i in order], torch.tensor(order)
