"""Evaluates a model that was trained on images of digits on digits it has never seen.

Retrieval: among unseen pairs (test digits in held-out arrangements), find an image's caption and a
caption's image.

Zero-shot: name the only digit in an image. Each test digit stands alone in some cell. A class is
the ensemble of six prompts, one per cell ("top left three", ...), so that its features describe
the digit and not its place.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.data.digits.grids import CELLS, PROMPTS, DigitGrids, Pairs, place_alone
from fastclip.data.digits.images import DIGIT_MEAN, DIGIT_STD, DIGIT_WORDS, LabeledImages
from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.data.pixels import standardize
from fastclip.embeddings.encode import Encoder
from fastclip.evaluate.classification import accuracy, class_features, classify
from fastclip.evaluate.ranking import Retrieval, digests, nearest, retrieval
from fastclip.models.clip import CLIP

CHUNK = 512  # images or texts encoded at a time


class DigitEvaluation(NamedTuple):
    pairs: Pairs  # the unseen ones
    retrieved: Tensor  # (N,) int64, the caption found for each image
    retrieval: Retrieval
    digit_accuracy: float
    num_digits: int  # how many test digits were classified


@torch.no_grad()
def evaluate_digits(
    model: CLIP, tokenizer: WordTokenizer, test: LabeledImages, num_pairs: int = 1000, seed: int = 0
) -> DigitEvaluation:
    """Evaluate on `num_pairs` unseen pairs and on every test digit.

    Args:
        test: digits that are in no training image, at least one of each class.
        seed: draws the pairs, and the cell in which each digit stands.
    """
    was_training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    pairs = DigitGrids(test, held_out=True).draw(num_pairs, generator)
    prepare = functools.partial(standardize, mean=DIGIT_MEAN, std=DIGIT_STD)
    encoder = Encoder(model, prepare)
    image_features = _encode_images(encoder, pairs.images)
    text_features = _encode_texts(encoder, tokenizer, pairs.captions)

    cells = torch.randint(CELLS, (len(test.labels),), generator=generator)
    lone_features = _encode_images(encoder, place_alone(test.images, cells))
    classes = class_features(
        lambda texts: _encode_texts(encoder, tokenizer, texts), DIGIT_WORDS, PROMPTS
    )
    model.train(was_training)
    return DigitEvaluation(
        pairs,
        nearest(image_features, text_features),
        retrieval(
            image_features,
            text_features,
            image_ids=digests(pairs.images),
            text_ids=pairs.captions,
        ),
        accuracy(classify(lone_features, classes), test.labels),
        len(test.labels),
    )


def _encode_images(encoder: Encoder, images: Tensor) -> Tensor:
    found = encoder.images((part, None, ()) for part in images.split(CHUNK))
    return torch.cat([part.image_features for part in found])


def _encode_texts(encoder: Encoder, tokenizer: WordTokenizer, texts: list[str]) -> Tensor:
    found = encoder.texts(texts, tokenizer, CHUNK)
    return torch.cat([part.text_features for part in found])
