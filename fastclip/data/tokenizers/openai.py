"""The functions `tokenize` and `decode` of OpenAI's `clip`, and its `SimpleTokenizer`."""

import os
from collections.abc import Iterable
from functools import cache

from torch import Tensor

from fastclip.data.tokenizers.byte_pairs import OPENAI_SPECIAL_TOKENS, BytePairTokenizer


class SimpleTokenizer(BytePairTokenizer):
    """`BytePairTokenizer` with OpenAI's spelling of start and end, and OpenAI's one argument.

    Args:
        bpe_path: where the merges are; see `find_vocabulary`.

    Raises:
        FileNotFoundError, ValueError: as `BytePairTokenizer`.

    Example:
        >>> SimpleTokenizer().encoder["<|endoftext|>"]
        49407
    """

    def __init__(self, bpe_path: str | os.PathLike | None = None) -> None:
        super().__init__(bpe_path, special_tokens=OPENAI_SPECIAL_TOKENS)


def tokenize(
    texts: str | Iterable[str], context_length: int = 77, truncate: bool = False
) -> Tensor:
    """Return (B, context_length) int64 ids of CLIP; a single text gives B = 1.

    The tokenizer is made at the first call. It is `BytePairTokenizer()`: literal special tokens
    have open_clip's spelling. The ids equal OpenAI's, which are int32 there. For a model with
    another vocabulary, use the tokenizer that `fastclip.get_tokenizer` returns.

    Raises:
        FileNotFoundError: OpenAI's vocabulary is not on this machine and cannot be fetched; the
            message says how to get it.
        TextTooLong: a text does not fit and `truncate` is False.
        TypeError: `texts` is not made of strings.
        ValueError: `context_length` < 2.

    Example:
        >>> fastclip.tokenize("a dog")[0, :4].tolist()
        [49406, 320, 1929, 49407]
    """
    return default_tokenizer()(texts, context_length, truncate)


def decode(ids: Tensor | Iterable[int]) -> str:
    """Return the text of (T,) ids: see `BytePairTokenizer.decode`.

    Example:
        >>> fastclip.decode([320, 1929])
        'a dog '
    """
    return default_tokenizer().decode(ids)


@cache
def default_tokenizer() -> BytePairTokenizer:
    """Return the tokenizer that these functions use; it is made at the first call."""
    return BytePairTokenizer()
