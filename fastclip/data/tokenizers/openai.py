"""`tokenize` and `decode` as OpenAI's `clip` has them: functions, no object to make first."""

from collections.abc import Iterable
from functools import cache

from torch import Tensor

from fastclip.data.tokenizers.byte_pairs import BytePairTokenizer


def tokenize(
    texts: str | Iterable[str], context_length: int = 77, truncate: bool = False
) -> Tensor:
    """Return (B, context_length) int64 ids of CLIP; a single text gives B = 1.

    The tokenizer is made at the first call. It is `BytePairTokenizer()`: literal special tokens
    are those of open_clip. The ids are OpenAI's, which are int32 there. A model with another
    vocabulary has the tokenizer that `fastclip.get_tokenizer` returns.

    Raises:
        FileNotFoundError: OpenAI's vocabulary is not here and cannot be fetched; the message says
            how to get it.
        TextTooLong: a text does not fit and `truncate` is False.
        TypeError: `texts` is not made of strings.
        ValueError: `context_length` < 2.
    """
    return _tokenizer()(texts, context_length, truncate)


def decode(ids: Tensor | Iterable[int]) -> str:
    """Return the text of (T,) ids: see `BytePairTokenizer.decode`."""
    return _tokenizer().decode(ids)


@cache
def _tokenizer() -> BytePairTokenizer:
    return BytePairTokenizer()
