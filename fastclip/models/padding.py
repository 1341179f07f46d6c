"""Texts without the padding behind their ends.

In a causal tower that is read at the end token, padding does not affect the features, but it is
most of the tokens of a batch, where captions have 20 tokens and contexts 77.

Lengths are rounded up to multiples of 8: matrix units prefer them, and there are few of them.
"""

from torch import Tensor, nn

MULTIPLE = 8


def without_padding(model: nn.Module, tokens: Tensor) -> Tensor:
    """(B, T) tokens cut to the longest text, if the model says how long texts are."""
    lengths_of = getattr(model, "text_lengths", None)
    if lengths_of is None:
        return tokens
    return tokens[:, : rounded_length(int(lengths_of(tokens).max()), tokens.shape[1])]


def rounded_length(length: int, T: int) -> int:
    """`length` rounded up, T at most."""
    return min(T, -(-length // MULTIPLE) * MULTIPLE)
