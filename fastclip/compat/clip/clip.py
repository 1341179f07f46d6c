"""The names of `clip.clip`."""

from typing import Any

from fastclip.compat.clip.model import build_model
from fastclip.compat.clip.simple_tokenizer import SimpleTokenizer as _Tokenizer
from fastclip.data.tokenizers.openai import tokenize
from fastclip.models.openai import available_models, load
from fastclip.models.pretrained import OPENAI_URLS as _MODELS

__all__ = ["available_models", "load", "tokenize"]


def __getattr__(name: str) -> Any:
    if name == "_tokenizer":  # made when it is first wanted, since it needs a vocabulary
        return _Tokenizer()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
