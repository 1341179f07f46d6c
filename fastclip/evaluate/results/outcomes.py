"""Which single images or texts were right: a bit each, in hexadecimal, in the order of their keys.

The digest of keys, and of what is right for each, says whether two models answered the same
questions.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastclip.data.quoting import quoted


def question_digest(keys: Sequence[str], answers: Tensor) -> str:
    """Return the SHA-256 of N keys and of (N,) integers, the right answer to each."""
    content = json.dumps([list(keys), answers.tolist()])
    return hashlib.sha256(content.encode()).hexdigest()


def to_json(correct: Tensor) -> dict[str, Any]:
    """Return (N,) bool as JSON.

    Example:
        >>> to_json(torch.tensor([True, False, False, False, True]))
        {'n': 5, 'bits': '88'}
    """
    return {"n": len(correct), "bits": np.packbits(correct.numpy()).tobytes().hex()}


def from_json(values: Any) -> Tensor:
    """The reverse.

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


def all_to_json(questions: str, correct: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the outcomes of several metrics of the same questions, whose digest is given."""
    return {"questions": questions, "correct": {k: to_json(v) for k, v in correct.items()}}
