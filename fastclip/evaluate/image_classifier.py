"""Classify images by the nearest class: a stream of images gives a stream of answers.

    cosine_c      = <image, class c>                     of unit features
    probability_c = softmax_c(logit_scale * cosine_c)    over the given classes

Classes of the same name count once. If several classes are equally near, none is predicted; see
`ties.py`.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from torch import Tensor

from fastclip.data.loading.decoding import read_pixels
from fastclip.data.patches import stacked
from fastclip.data.sources.samples import BadSample
from fastclip.embeddings.encode import Encoder
from fastclip.embeddings.token_budget import MOST_READERS
from fastclip.evaluate.answers import Answer, Guess
from fastclip.evaluate.class_prompts import ClassPrompts
from fastclip.evaluate.classifier import encode_classes
from fastclip.evaluate.items import distinct, first_of_each
from fastclip.evaluate.ties import similarity
from fastclip.models.inference import InferenceModel

BATCH_SIZE = 32


@dataclass(frozen=True, eq=False)
class ImageClassifier:
    """A model with the classes that it chooses from.

    Attributes:
        ready: the model.
        names: C different names.
        classes: (D, C) floating point, unit columns, on the device of the model.

    Raises:
        ValueError: there are fewer than two names, which leaves no choice, or the model's logit
            scale is not finite.
    """

    ready: InferenceModel
    names: tuple[str, ...]
    classes: Tensor

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise ValueError(
                f"give at least two classes of different names to choose from, got {self.names}"
            )
        if not math.isfinite(self.ready.logit_scale):
            raise ValueError(
                f"the logit scale of {self.ready.name} must be finite, got {self.ready.logit_scale}"
            )

    @classmethod
    def of(
        cls,
        ready: InferenceModel,
        prompts: ClassPrompts,
        progress: Callable[[int], None] = lambda num: None,
    ) -> "ImageClassifier":
        """Make a classifier from prompts; classes of the same name become one class.

        Args:
            ready: the model.
            prompts: the names and prompts of the classes.
            progress: called after each batch with the number of texts in it.

        Raises:
            ValueError: there are fewer than two names, the model's logit scale is not finite, or
                the features of prompts are not finite (see `encode_classes`).
        """
        first = first_of_each(distinct(prompts.names)).tolist()
        names = tuple(prompts.names[i] for i in first)
        classes = encode_classes(Encoder.of(ready, progress), ready.tokenizer, prompts)
        return cls(ready, names, classes[:, first])

    def answers(
        self, images: Iterable[Any], top: int = 5, batch_size: int = BATCH_SIZE
    ) -> Iterator[Answer]:
        """Yield an answer for each image, in their order, as soon as its batch is encoded.

        Args:
            images: paths, PIL images, or bytes of files; or bad samples, whose answers say that
                they were skipped.
            top: guesses for an image, at least 1; all classes if there are fewer.
            batch_size: images that are read, in threads, and encoded at once.

        Raises:
            TypeError: `images` is a single image instead of a sequence.
            ValueError: `top` < 1 or `batch_size` < 1.
        """
        if isinstance(images, str | bytes | os.PathLike):
            raise TypeError(
                f"images must be a sequence of images, got a single one: {images!r:.80}"
            )
        for name, value in (("top", top), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        return self._stream(images, min(top, len(self.names)), batch_size)

    def _stream(self, images: Iterable[Any], top: int, batch_size: int) -> Iterator[Answer]:
        remaining = zip(count(), images)
        with ThreadPoolExecutor(min(MOST_READERS, os.cpu_count() or 1)) as readers:
            while batch := list(islice(remaining, batch_size)):
                read = list(readers.map(self._read, batch))
                pixels = [found for _, found in read if isinstance(found, Tensor)]
                near = self._near(pixels) if pixels else iter(())
                for name, found in read:
                    skipped = isinstance(found, BadSample)
                    yield (
                        Answer(name, skipped=found)
                        if skipped
                        else self._answer(name, next(near), top)
                    )

    def _read(self, numbered: tuple[int, Any]) -> tuple[str, Tensor | BadSample]:
        number, image = numbered
        if isinstance(image, BadSample):
            return image.key, image
        is_path = isinstance(image, str | os.PathLike)
        name = os.fsdecode(image) if is_path else f"image {number}"
        found = read_pixels(self.ready.transform, image, name)
        if isinstance(found, BadSample):
            prefix = f"{name if is_path else 'image'}: "  # the beginning of details
            found = found._replace(detail=found.detail.removeprefix(prefix))
        return name, found

    def _near(self, pixels: list[Tensor]) -> Iterator[Tensor]:
        """Yield (C,) float32 cosines for each image, on the host."""
        (batch,) = Encoder.of(self.ready).images([(stacked(pixels), None, ())])
        return iter(similarity(batch.image_features, self.classes.T).cpu())

    def _answer(self, image: str, near: Tensor, top: int) -> Answer:
        if not near.isfinite().all():
            reason = "features that are not finite"
            return Answer(image, skipped=BadSample(image, reason, "the model has diverged"))
        probabilities = (self.ready.logit_scale * near.double()).softmax(0).tolist()
        cosines, order = (part[:top].tolist() for part in near.sort(descending=True, stable=True))
        guesses: list[Guess] = []
        for place, (cosine, i) in enumerate(zip(cosines, order, strict=True), 1):
            is_as_near = bool(guesses) and guesses[-1].cosine == cosine
            rank = guesses[-1].rank if is_as_near else place
            guesses.append(Guess(rank, self.names[i], probabilities[i], cosine))
        return Answer(image, tuple(guesses), int((near == near.max()).sum()))


def classify_images(
    ready: InferenceModel, images: Iterable[Any], prompts: ClassPrompts, top: int = 5
) -> Iterator[Answer]:
    """Classify images by the class whose prompts lie nearest.

    The call itself encodes the prompts. Images are read and encoded batch by batch while the
    answers are iterated, so that there may be any number of images. An image that cannot be used is
    skipped, and its answer says why.

    Args:
        ready: the model, from `fastclip.open_model`.
        images: paths, PIL images, or bytes of files.
        prompts: the prompts of at least two classes; see `class_prompts.py`.
        top: guesses for an image, at least 1; all classes if there are fewer.

    Returns:
        An iterator with one answer per image, in the order of the images.

    Raises:
        TypeError: `images` is a single image instead of a sequence.
        ValueError: there are fewer than two classes, `top` < 1, or the model has diverged.

    Example:
        >>> ready = fastclip.open_model("ViT-B-32", "laion2b_s34b_b79k")
        >>> prompts = read_class_prompts(["cat", "dog"], "imagenet80")
        >>> for answer in classify_images(ready, ["a.jpg", "b.jpg"], prompts):
        ...     print(answer.image, answer.predicted, answer.guesses[0].probability)
        a.jpg cat 0.998
        b.jpg dog 0.973
    """
    return ImageClassifier.of(ready, prompts).answers(images, top)
