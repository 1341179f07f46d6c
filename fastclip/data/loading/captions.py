"""Turns a caption into its tokens, and says whether it was cut to fit the context."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.data.loading.returned import require_tensor
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.tokenizers.arguments import TextTooLong


class Tokens(NamedTuple):
    """The tokens of a caption.

    Attributes:
        ids: (T,) int64.
        is_cut: whether the caption has more tokens than fit; False if the tokenizer cannot say.
    """

    ids: Tensor
    is_cut: bool


class CaptionReader:
    """Tokenizes captions one at a time, and notices which of them are cut.

    A tokenizer with the argument `truncate` is first asked to refuse a caption that does not fit,
    as fastclip's tokenizers do with TextTooLong, and then to cut it. Only a caption that it refuses
    is tokenized twice. If a tokenizer does not have that argument, cut captions are not noticed.

    Args:
        tokenizer: maps a list of B strings to (B, T) int64.
    """

    def __init__(self, tokenizer: Callable[[list[str]], Tensor]) -> None:
        self._tokenizer = tokenizer
        self._can_refuse = _takes(tokenizer, "truncate")

    def __call__(self, sample: Sample) -> Tokens | BadSample:
        """Return the tokens of the sample's caption, or a bad sample that says why there are none.

        Raises:
            TypeError: the tokenizer returns anything but (B, T) int64.
        """
        try:
            ids, is_cut = self._tokenize([sample.caption])
        except Exception as error:
            return BadSample(sample.key, "unusable caption", f"{type(error).__name__}: {error}")
        require_tensor(ids, "tokenizer", torch.int64, 2)
        return Tokens(ids[0], is_cut)

    def _tokenize(self, texts: list[str]) -> tuple[Tensor, bool]:
        is_cut = False
        if self._can_refuse:
            try:
                return self._tokenizer(texts, truncate=False), False
            except TextTooLong:
                is_cut = True
            except Exception:
                pass  # the call below says what is wrong
        return self._tokenizer(texts), is_cut


def _takes(function: Callable, name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a callable without a signature, as some of C are
        return False
