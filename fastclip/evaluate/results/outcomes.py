"""Which single images or texts were right: one bit each, in hexadecimal, in the order of the keys.

For captions the image of each is stored as well, because captions of the same image are not
independent answers.

Digests of everything that defines a question, apart from the model, show whether two models
answered the same questions.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastclip.data.quoting import quoted

VERSION = 2  # the first version, without a number, had digests of images and answers only
# The parts that define a question.
IMAGES, ANSWERS, CLASSES, TRAINING = "images", "right answers", "classes", "images to train on"


def questions_of(keys: Sequence[str], answers: Sequence[int | str], **more: Any) -> dict[str, str]:
    """Return the SHA-256 of each part that defines the questions, by the name of the part.

    Args:
        keys: the keys of N images or captions.
        answers: the right answer to each: a number or a name.
        more: further parts, as JSON, under the names above; the order of classes matters.

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
        correct: (N,) bool on the host: whether each answer is right.
        image_of: (N,) int64, the image of each answer; None if every answer has its own image.

    Example:
        >>> to_json(torch.tensor([True, False, False, False, True]))
        {'n': 5, 'bits': '88'}
    """
    found = {"n": len(correct), "bits": np.packbits(correct.numpy()).tobytes().hex()}
    return found if image_of is None else found | {"image_of": image_of.tolist()}


def image_of(values: Any) -> list[int] | None:
    """Return the image of each of N answers, or None if every answer has its own image.

    Raises:
        ValueError: `values` has not the form that `to_json` returns.
    """
    found = values.get("image_of")
    if found is None:
        return None
    if not isinstance(found, list) or not all(type(i) is int and 0 <= i < 2**31 for i in found):
        raise ValueError(f"image_of must be a list of numbers of images, got {quoted(found)}")
    return found


def from_json(values: Any) -> Tensor:
    """Return the (N,) bool that `to_json` wrote.

    Raises:
        ValueError: `values` has not the form that `to_json` returns.
    """
    try:
        num, bits = values["n"], bytes.fromhex(values["bits"])
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"outcomes must have n and bits, got {quoted(values)}") from None
    if type(num) is not int or not 8 * (len(bits) - 1) < num <= 8 * len(bits):
        raise ValueError(f"outcomes of {quoted(num)} questions cannot be {len(bits)} bytes of bits")
    return torch.from_numpy(np.unpackbits(np.frombuffer(bytearray(bits), np.uint8))[:num] > 0)


def all_to_json(
    questions: Mapping[str, str],
    correct: Mapping[str, Tensor],
    images: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Return the outcomes of several metrics as JSON.

    Args:
        questions: the digests from `questions_of`.
        correct: (N,) bool for each metric.
        images: `image_of` for the metrics that have several answers about the same image.
    """
    of = images or {}
    answers = {name: to_json(values, of.get(name)) for name, values in correct.items()}
    return {"version": VERSION, "questions": dict(questions), "correct": answers}
