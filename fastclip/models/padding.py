"""Texts without the padding behind their ends.

In a causal tower that is read at the end token, padding does not affect the features, but it is
most of the tokens of a batch, where captions have 20 tokens and contexts 77.

Lengths are rounded up to multiples of 8: matrix units prefer them, and there are few of them.
"""

from torch import Tensor, nn

MULTIPLE = 8


def without_padding(model: nn.Module, tokens: Tensor) -> Tensor:
    """Cut tokens to the longest text of the batch, if the model says how long texts are.

    Args:
        model: it is asked for `text_lengths`, as `CLIP` has it; one without, whose features may
            depend on the padding, gets the tokens as they are.
        tokens: (B, T) int64, B >= 1.

    Returns:
        (B, S) int64, S at most T: a view, of which the model makes the same features.

    Example:
        >>> tokens = fastclip.tokenize(["a dog", "a photo of two cats"])  # (2, 77)
        >>> without_padding(model, tokens).shape
        torch.Size([2, 8])
    """
    lengths_of = getattr(model, "text_lengths", None)
    if lengths_of is None:
        return tokens
    return tokens[:, : rounded_length(int(lengths_of(tokens).max()), tokens.shape[1])]


def rounded_length(length: int, T: int) -> int:
    """`length` rounded up, T at most."""
    return min(T, -(-length // MULTIPLE) * MULTIPLE)
