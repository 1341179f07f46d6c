"""What a model is, in a few letters: digests of weights, of images' settings and of tokens.

Features of models with the same three are the same, up to the rounding of the machine that computes
them. Names and places of files do not count.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# What vocabularies and their treatment of letters, spaces and lengths tell apart.
PROBE = (
    "a photo of a cat.", "A Photo of the small  CAT!", "zero one two three four five six seven",
    "naïve café, Übergröße", "東京の夜景 и Москва", "a b c d e f g h i j k l m n o p q r s",
    "3.14159 x 2,718 = 8.5397...", "<start> &amp; <end>", "",
)  # fmt: skip


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers: names, dtypes, shapes and bytes.

    Example:
        >>> weights_digest(nn.Linear(2, 2)) == weights_digest(nn.Linear(2, 2))
        False
    """
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of settings as JSON; the order of their names does not count."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def tokenizer_digest(tokenizer: Callable[[list[str]], Tensor]) -> str:
    """Return the SHA-256 of the ids that a tokenizer gives some texts, each of which tells a lot.

    It is what a tokenizer does that counts, and not the files that it comes from.
    """
    told = [_ids(tokenizer, text) for text in PROBE]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _ids(tokenizer: Callable[[list[str]], Tensor], text: str) -> list[list[int]] | str:
    try:
        return tokenizer([text]).tolist()
    except ValueError:
        return "refused"  # as too long, by a tokenizer that does not cut
