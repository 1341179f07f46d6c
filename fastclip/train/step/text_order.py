"""Orders the texts of a batch by length, so that micro-batches can be cut to their longest text.

In a causal tower that is read at the end token, the padding behind it does not affect the features;
yet it is most of the tokens in a batch, if captions have 20 tokens and contexts 77. So the texts of
a batch are distributed to its micro-batches in the order of their lengths, the longest first, and
each micro-batch is cut to its longest text. The features are put back into the order of the batch
before the loss. Features and gradients are the same, to rounding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastclip.models.padding import rounded_length


class TextOrder(NamedTuple):
    """Attributes:
    texts: of the micro-batches, (B, T) each, as many as before, not cut.
    lengths: the length to which each micro-batch may be cut.
    places: (N,) int64, the place in the batch of each row of the ordered texts.
    """

    texts: list[Tensor]
    lengths: list[int]
    places: Tensor

    def cut(self, i: int) -> Tensor:
        """Return micro-batch i, cut to its length."""
        return self.texts[i][:, : self.lengths[i]]

    def put_back(self, rows: Tensor) -> Tensor:
        """Turn (N, D) rows of texts in this order into the order of the batch."""
        return torch.empty_like(rows).index_copy_(0, self.places.to(rows.device), rows)

    def take(self, rows: Tensor) -> Tensor:
        """Turn (N, D) rows of texts in the order of the batch into this order."""
        return rows.index_select(0, self.places.to(rows.device))


def order_by_length(model: nn.Module, texts: Sequence[object]) -> TextOrder | None:
    """Order the texts of micro-batches; return None if the model does not know their lengths.

    Args:
        model: has a method `text_lengths`, as `CLIP` does, or is not ordered.
        texts: (B, T) tokens with the same T; others are not ordered.
    """
    lengths_of = getattr(model, "text_lengths", None)
    if lengths_of is None or not all(isinstance(part, Tensor) for part in texts):
        return None
    T = texts[0].shape[1]
    if any(part.shape[1] != T for part in texts):
        return None
    every = torch.cat(list(texts))
    lengths, places = lengths_of(every).sort(descending=True, stable=True)
    sizes = [len(part) for part in texts]
    rounded = [rounded_length(int(part[0]), T) for part in lengths.cpu().split(sizes)]
    return TextOrder(list(every[places].split(sizes)), rounded, places)
