"""One pass of encoding: what a model makes of a set, in an order that no worker changes.

A loader with several workers gives batches in another order than one with none. Samples are
therefore sorted by their keys once they are encoded, so that a number for each image means the
same image in every evaluation of the set.
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
    """What is asked of a `PairLoader`."""

    @property
    def bad_samples(self) -> BadSamples: ...

    def __iter__(self) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class LabelledFeatures:
    """Attributes:
    image_features: (N, D) float32 unit rows, on the host.
    labels: (N,) int64.
    keys: N names of the images, sorted, without the place of the data.
    bad: what could not be read.
    """

    image_features: Tensor
    labels: Tensor
    keys: list[str]
    bad: BadSamples


@dataclass(frozen=True)
class PairFeatures:
    """Attributes:
    image_features: (M, D) float32 unit rows, on the host, of each image once.
    text_features: (N, D) of each caption.
    text_to_image: (N,) int64, in [0, M): the image of each caption.
    captions: N digests of the tokens of each caption: equal ones are one text.
    keys: N names of the pairs, sorted, without the place of the data.
    bad: what could not be read.
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
        loader: of `source`, one epoch of it, with (B, 1) labels for tokens.

    Raises:
        DataError: too many samples are bad.
        ValueError: there is none that is good, or two have the same key.
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
    """Encode pairs; an image of several captions, which has the same pixels in each, once.

    Equal captions are encoded once too, so that their features are equal: those of batches of two
    sizes are rounded differently.

    Args:
        loader: of `source`, one epoch of it.

    Raises:
        DataError: too many samples are bad.
        ValueError: there is none that is good, or two have the same key.
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
    """Tells rows, batch after batch, from those that are equal to an earlier one.

    Attributes:
        ids: digests of all rows so far.
    """

    def __init__(self) -> None:
        self.ids: list[bytes] = []
        self._seen: set[bytes] = set()

    def not_seen(self, rows: Tensor) -> Tensor:
        """Return those of (B, ...) rows that no row before them is equal to."""
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
    """Return keys of samples without the deepest folder that all parts of their source lie in.

    Of two shards of one name in different folders, the keys begin with what tells these apart.
    """
    folders = [part.name.split("/")[:-1] for part in source.parts()]
    place = "".join(f"{name}/" for name in os.path.commonprefix(folders))
    return [key.removeprefix(place) for key in keys]


def _sorted(keys: list[str], source: Source) -> tuple[list[str], Tensor]:
    """Keys without the place of the data, sorted; and in which order.

    Raises:
        ValueError: two are the same, so that loading would say which comes first.
    """
    keys = without_place(keys, source)
    if repeated := [key for key, number in Counter(keys).items() if number > 1]:
        raise ValueError(
            "samples must have names of their own, to be told apart, but several are called "
            + some_of(repeated, NAMED)
        )
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return [keys[i] for i in order], torch.tensor(order)
