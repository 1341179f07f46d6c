"""Texts of like length together, and without what is behind their ends.

In a causal tower that is read at the end token, what is behind it has no part in anything; yet it
is most of a batch, where captions have 20 tokens and contexts 77. So the texts of a batch go to its
micro-batches in the order of their lengths, the longest first, each micro-batch cut to its longest.
Their features are put back in their places before the loss. Features and gradients are the same, to
rounding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastclip.models.padding import rounded_length


class TextOrder(NamedTuple):
    """Attributes:
    texts: of micro-batches, (B, T) each, as many as before, not cut.
    lengths: that each of them may be cut to.
    places: (N,) int64, where in the batch each of their rows was.
    """

    texts: list[Tensor]
    lengths: list[int]
    places: Tensor

    def cut(self, i: int) -> Tensor:
        """Micro-batch i, cut."""
        return self.texts[i][:, : self.lengths[i]]

    def put_back(self, rows: Tensor) -> Tensor:
        """(N, D) rows of texts in this order to those in the batch's."""
        return torch.empty_like(rows).index_copy_(0, self.places.to(rows.device), rows)

    def take(self, rows: Tensor) -> Tensor:
        """(N, D) rows of texts in the batch's order to those in this one."""
        return rows.index_select(0, self.places.to(rows.device))


def order_by_length(model: nn.Module, texts: Sequence[object]) -> TextOrder | None:
    """Order the texts of micro-batches; None if the model does not say how long texts are.

    Args:
        model: one with `text_lengths`, as `CLIP` has it.
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
