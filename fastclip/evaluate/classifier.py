"""A matrix whose columns are classes, made from the prompts of each class.

    cosines = image_features @ classes

A class is the normalised mean of the unit features of its prompts; see `classification.py`.
"""

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor

from fastclip.embeddings.encode import Encoder
from fastclip.evaluate.class_prompts import ClassPrompts
from fastclip.evaluate.classification import ensembled
from fastclip.evaluate.items import digests, distinct, first_of_each


@torch.no_grad()
def encode_classes(
    encoder: Encoder,
    tokenizer: Callable[[list[str]], Tensor],
    prompts: ClassPrompts,
    chunk: int = 256,
) -> Tensor:
    """Encode all prompts, each text once, and return the classifier as a matrix.

    Texts are encoded in the order of their lengths, so that a batch has little padding. Texts with
    the same tokens, such as "Cat" and "cat" for CLIP, get the same features to the last bit, so
    that classes which a model cannot distinguish tie.

    Args:
        encoder: the encoder of a model in evaluation mode.
        tokenizer: from a list of B texts to (B, T) int64.
        prompts: the prompts of C classes.
        chunk: texts that are encoded at once.

    Returns:
        (D, C) float32, unit columns in the order of `prompts.names`, on the encoder's device.

    Raises:
        ValueError: `chunk` < 1, or the model returns features that are not finite.

    Example:
        >>> ready = open_model("logs/my-run")
        >>> prompts = make_class_prompts(["cat", "dog"], ["a photo of a {}."])
        >>> classes = encode_classes(Encoder.of(ready), ready.tokenizer, prompts)
        >>> cosines = image_features @ classes  # (N, D) @ (D, 2)
    """
    texts = sorted(dict.fromkeys(chain(*prompts.prompts)), key=len)
    parts = list(encoder.texts(texts, tokenizer, chunk))
    features = torch.cat([part.text_features for part in parts])
    if not features.isfinite().all():
        raise ValueError("the features of prompts are not finite: the model has diverged")
    same = distinct(chain(*(digests(part.tokens) for part in parts)))
    row_of = dict(zip(texts, first_of_each(same)[same].tolist(), strict=True))
    columns = [ensembled(features[[row_of[text] for text in own]]) for own in prompts.prompts]
    return torch.stack(columns, dim=1)
