"""What is done to the logits of the next token before one is chosen, and how it is chosen.

Orders are open_clip's: first the least length, then the penalty of repetition, then the tokens that
are left, and then the temperature.

Source: Keskar et al. 2019 (CTRL), arXiv:1909.05858, section 4.1, for the penalty; Fan et al. 2018,
arXiv:1805.04833, for the most probable k; Holtzman et al. 2019, arXiv:1904.09751, for the nucleus.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Choice = Callable[[Tensor], Tensor]  # from (B, V) logits to (B,) tokens


class Rules(NamedTuple):
    """Attributes:
    min_length: tokens, the first of all among them, before which no text ends.
    eos: (E,) int64, tokens that end a text.
    repetition_penalty: above 1 makes tokens that a text has already less probable.
    """

    min_length: int
    eos: Tensor
    repetition_penalty: float

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """The (B, V) logits of what follows (B, T) tokens, by the rules."""
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
    """Logits with -inf in place of all that are below the k-th largest of their row."""
    least = logits.topk(min(k, logits.shape[1]), dim=1).values[:, -1:]
    return logits.masked_fill(logits < least, float("-inf"))


def nucleus(logits: Tensor, p: float) -> Tensor:
    """Logits with -inf in place of the least probable, whose probabilities add up to 1 - p."""
    ordered, places = logits.sort(dim=1)
    dropped = ordered.softmax(1).cumsum(1) <= 1 - p
    dropped[:, -1] = False  # the most probable one stays
    return logits.masked_fill(dropped.scatter(1, places, dropped), float("-inf"))


def drawn(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """(B,) tokens, drawn with the probabilities of the softmax of logits / temperature."""
    probabilities = (logits / temperature).softmax(1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
