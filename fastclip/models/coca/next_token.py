"""Changing the logits of the next token, and choosing one.

The steps come in open_clip's order: first the minimum length, then the penalty for repetition, then
the restriction to probable tokens, and then the temperature.

Source: Keskar et al. 2019 (CTRL), arXiv:1909.05858, section 4.1, for the penalty; Fan et al. 2018,
arXiv:1805.04833, for the most probable k; Holtzman et al. 2019, arXiv:1904.09751, for the nucleus.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Choice = Callable[[Tensor], Tensor]  # from (B, V) logits to (B,) tokens


class Rules(NamedTuple):
    """Rules that change the logits of the next token.

    Attributes:
        min_length: the number of tokens, including the first one, before which no text ends.
        eos: (E,) int64, tokens that end a text.
        repetition_penalty: above 1 makes tokens less probable that a text has already.
    """

    min_length: int
    eos: Tensor
    repetition_penalty: float

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """Return the changed (B, V) logits of the tokens that follow (B, T) tokens."""
        if tokens.shape[1] < self.min_length:
            logits = logits.index_fill(1, self.eos, float("-inf"))
        if self.repetition_penalty == 1:
            return logits
        of_known = logits.gather(1, tokens)
        lower = torch.where(
            of_known < 0, of_known * self.repetition_penalty, of_known / self.repetition_penalty
        )
        return logits.scatter(1, tokens, lower)


def most_probable(logits: Tensor, k: int) -> Tensor:
    """Return logits with -inf in place of all that are below the k-th largest in their row."""
    least = logits.topk(min(k, logits.shape[1]), dim=1).values[:, -1:]
    return logits.masked_fill(logits < least, float("-inf"))


def nucleus(logits: Tensor, p: float) -> Tensor:
    """Return logits with -inf for the least probable tokens, which add up to at most 1 - p."""
    ordered, places = logits.sort(dim=1)
    dropped = ordered.softmax(1).cumsum(1) <= 1 - p
    dropped[:, -1] = False  # the most probable one stays
    return logits.masked_fill(dropped.scatter(1, places, dropped), float("-inf"))


def drawn(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Return (B,) tokens, drawn with the probabilities softmax(logits / temperature)."""
    probabilities = (logits / temperature).softmax(1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
