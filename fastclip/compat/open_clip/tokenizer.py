"""The names of `open_clip.tokenizer`."""

from typing import Any

from fastclip.compat.absent import absent
from fastclip.data.tokenizers.cleaning import collapse as whitespace_clean
from fastclip.data.tokenizers.cleaning import find_cleaner as get_clean_fn
from fastclip.data.tokenizers.cleaning import repair as basic_clean
from fastclip.data.tokenizers.hugging_face import HFTokenizer
from fastclip.data.tokenizers.open_clip import (
    DEFAULT_CONTEXT_LENGTH,
    SimpleTokenizer,
    decode,
    tokenize,
)
from fastclip.data.tokenizers.openai import default_tokenizer as _default_tokenizer

globals().update(
    absent(
        {
            "get_tokenizer('ViT-B-16-SigLIP') returns the tokenizer of that model": (
                "SigLipTokenizer",
            ),
            "get_clean_fn('canonicalize') does the same after repairing a text": (
                "canonicalize_text",
            ),
            "texts that are too long are always cut at their end": (
                "get_reduction_mask_fn",
                "random_mask_tokenize",
                "simple_mask_tokenize",
                "syntax_mask_tokenize",
            ),
        }
    )
)


def __getattr__(name: str) -> Any:
    if name == "_tokenizer":  # made when it is first wanted, since it needs a vocabulary
        return _default_tokenizer()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
