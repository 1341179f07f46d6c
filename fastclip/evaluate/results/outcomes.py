"""Which single images or texts were right: a bit each, in hexadecimal, in the order of their keys.

Of captions it is also kept which image each is of: those of one image are no independent answers.

Digests of all that decides a question, and is no matter of the model, say whether two models
answered the same ones.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastclip.data.quoting import quoted

VERSION = 2  # the first one, which had no number, had digests of images and answers alone
# What may decide a question.
IMAGES, ANSWERS, CLASSES, TRAINING = "images", "right answers", "classes", "images to train on"


def questions_of(keys: Sequence[str], answers: Sequence[int | str], **more: Any) -> dict[str, str]:
    """Return the SHA-256 of each thing that decides what was asked, by its name.

    Args:
        keys: of N images or captions.
        answers: what is right for each: a number or a name.
        more: what else there is, under the names above, as JSON; of classes the order counts.

    Example:
        >>> questions_of(["1.png"], ["cat"], **{CLASSES: ["cat", "dog"]}).keys()
        dict_keys(['images', 'right answers', 'classes'])
    """
    parts = {IMAGES: list(keys), ANSWERS: list(answers), **more}
    return {
        name: hashlib.sha256(json.dumps(part).encode()).hexdigest() for name, part in parts.items()
    }


def to_json(correct: Tensor, image_of: Tensor | None = None) -> dict[str, Any]:
    """Return (N,) bool as JSON.

    Args:
        image_of: (N,) int64, the image that each answer is about; None if each is about its own.

    Example:
        >>> to_json(torch.tensor([True, False, False, False, True]))
        {'n': 5, 'bits': '88'}
    """
    found = {"n": len(correct), "bits": np.packbits(correct.numpy()).tobytes().hex()}
    return found if image_of is None else found | {"image_of": image_of.tolist()}


def image_of(values: Any) -> list[int] | None:
    """Return the image that each of N answers is about; None if each is about its own.

    Raises:
        ValueError: it is nothing that `to_json` returns.
    """
    found = values.get("image_of")
    if found is None:
        return None
    if not isinstance(found, list) or not all(type(i) is int and 0 <= i < 2**31 for i in found):
        raise ValueError(f"no numbers of images: {quoted(found)}")
    return found


def from_json(values: Any) -> Tensor:
    """The reverse of `to_json`, without `image_of`.

    Raises:
        ValueError: it is nothing that `to_json` returns.
    """
    try:
        num, bits = values["n"], bytes.fromhex(values["bits"])
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"no outcomes: {quoted(values)}") from None
    if type(num) is not int or not 8 * (len(bits) - 1) < num <= 8 * len(bits):
        raise ValueError(f"{len(bits)} bytes are no outcomes of {quoted(num)} questions")
    return torch.from_numpy(np.unpackbits(np.frombuffer(bytearray(bits), np.uint8))[:num] > 0)


def all_to_json(
    questions: Mapping[str, str],
    correct: Mapping[str, Tensor],
    images: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Return the outcomes of several metrics.

    Args:
        questions: of `questions_of`.
        correct: (N,) bool of each metric.
        images: `image_of` of the metrics whose answers are several about an image.
    """
    of = images or {}
    answers = {name: to_json(values, of.get(name)) for name, values in correct.items()}
    return {"version": VERSION, "questions": dict(questions), "correct": answers}
