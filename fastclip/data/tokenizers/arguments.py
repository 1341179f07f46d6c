"""Checks of the arguments that every tokenizer takes."""

from collections.abc import Iterable
from operator import index

from torch import Tensor


class TextTooLong(ValueError, RuntimeError):
    """A text does not fit into the context, and truncation was not allowed.

    It is a ValueError, like every error about an argument in fastclip, and also a RuntimeError,
    which OpenAI's `clip.tokenize` raises and its callers catch.
    """


def list_texts(texts: str | Iterable[str]) -> list[str]:
    """Return texts as a list; a single text gives a list of one.

    Raises:
        TypeError: `texts` is neither a string nor an iterable of strings.
    """
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, Iterable):
        raise TypeError(f"texts must be a string or strings, got {type(texts).__name__}")
    texts = list(texts)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{i}] must be a string, got {type(text).__name__}: {text!r}")
    return texts


def list_ids(ids: Tensor | Iterable[int]) -> list[int]:
    """Return the ids of one text, (T,), as a list.

    Raises:
        TypeError: `ids` are not integers.
        ValueError: `ids` is a tensor that does not have exactly one dimension.
    """
    if isinstance(ids, Tensor):
        if ids.ndim != 1:
            raise ValueError(f"ids must have one dimension, got shape {tuple(ids.shape)}")
        ids = ids.tolist()
    try:
        return [index(i) for i in ids]
    except TypeError as error:
        raise TypeError(f"ids must be integers: {error}") from None


def check_context_length(context_length: int) -> int:
    """Return `context_length` if it is valid.

    Raises:
        TypeError: `context_length` is not an integer.
        ValueError: `context_length` has no room for a start and an end token.
    """
    if not isinstance(context_length, int):
        raise TypeError(f"context_length must be an integer, got {context_length!r}")
    if context_length < 2:
        raise ValueError(f"context_length must be at least 2, got {context_length}")
    return context_length


def check_fits(text: str, num_tokens: int, context_length: int) -> None:
    """Raise TextTooLong if `num_tokens`, start and end included, exceed `context_length`."""
    if num_tokens > context_length:
        shown = text if len(text) <= 100 else text[:100] + "..."
        raise TextTooLong(
            f"text has {num_tokens} tokens with start and end, but context_length is "
            f"{context_length}: {shown!r}; truncate=True cuts it"
        )
