"""`tokenize`, `decode` and `SimpleTokenizer` as in open_clip, which cuts long texts."""

import os
from collections.abc import Iterable

from torch import Tensor

from fastclip.data.tokenizers import openai
from fastclip.data.tokenizers.byte_pairs import SPECIAL_TOKENS, BytePairTokenizer
from fastclip.data.tokenizers.openai import decode as decode
from fastclip.data.tokenizers.vocabulary import BytePairVocabulary

DEFAULT_CONTEXT_LENGTH = 77


class SimpleTokenizer(BytePairTokenizer):
    """`BytePairTokenizer` with the names and the order of open_clip's arguments.

    Args:
        bpe_path: where the merges are; see `find_vocabulary`.
        reduction_mask: must be empty: texts that are too long are cut at their end.
        vocabulary: the merges, as an alternative to `bpe_path`.
        additional_special_tokens, context_length, clean, special_tokens: see `BytePairTokenizer`.

    Raises:
        ValueError: `reduction_mask` is not empty, or `bpe_path` and `vocabulary` are both given.
        FileNotFoundError, ValueError: as `BytePairTokenizer`.

    Example:
        >>> SimpleTokenizer(context_length=32)(["a dog"]).shape
        torch.Size([1, 32])
    """

    def __init__(
        self,
        bpe_path: str | os.PathLike | None = None,
        additional_special_tokens: Iterable[str] | None = None,
        context_length: int | None = DEFAULT_CONTEXT_LENGTH,
        clean: str = "lower",
        reduction_mask: str = "",
        *,
        vocabulary: BytePairVocabulary | str | os.PathLike | None = None,
        special_tokens: tuple[str, str] = SPECIAL_TOKENS,
    ) -> None:
        if reduction_mask:
            raise ValueError(
                f"reduction_mask must be empty, because long texts are cut, got {reduction_mask!r}"
            )
        if bpe_path is not None and vocabulary is not None:
            raise ValueError(
                f"bpe_path and vocabulary must not both be given, got bpe_path {bpe_path!r}"
            )
        length = DEFAULT_CONTEXT_LENGTH if context_length is None else context_length
        super().__init__(
            bpe_path if vocabulary is None else vocabulary, length, clean,
            additional_special_tokens, special_tokens,
        )  # fmt: skip


def tokenize(texts: str | Iterable[str], context_length: int = DEFAULT_CONTEXT_LENGTH) -> Tensor:
    """Return (B, context_length) int64 ids of CLIP; a single text gives B = 1.

    The last id of a text that does not fit is the end token.

    Raises:
        FileNotFoundError: OpenAI's vocabulary is not on this machine and cannot be fetched; the
            message says how to get it.
        TypeError: `texts` is not made of strings.
        ValueError: `context_length` < 2.

    Example:
        >>> tokenize(["a dog", "a cat"]).shape
        torch.Size([2, 77])
    """
    return openai.tokenize(texts, context_length, truncate=True)
