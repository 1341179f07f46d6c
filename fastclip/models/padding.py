"""Cutting the padding behind the ends of texts.

In a causal tower that is read at the end token, padding does not affect the features, but it is
most of the tokens in a batch: a caption may have 20 tokens, where the context has 77.

Lengths are rounded up to multiples of 8, which matrix units prefer; it also limits the number of
different lengths.
"""

from torch import Tensor, nn

MULTIPLE = 8


def without_padding(model: nn.Module, tokens: Tensor) -> Tensor:
    """Cut tokens to the longest text of the batch, if the model can tell how long texts are.

    Args:
        model: its method `text_lengths` gives the lengths, as in `CLIP`. The features of a model
            without it may depend on the padding, so its tokens are returned as they are.
        tokens: (B, T) int64, B >= 1.

    Returns:
        (B, S) int64, S at most T: a view, for which the model returns the same features.

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
    """Return `length` rounded up to a multiple of 8, at most T."""
    return min(T, -(-length // MULTIPLE) * MULTIPLE)
