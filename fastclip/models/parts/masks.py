"""Masks of attention: what a tower makes of the one that it has, and the causal one.

A mask has (T, T) elements, one row per query, and is added to the logits: -inf where nothing is
read, else 0; or it is of booleans, True where nothing is read.
"""

from collections.abc import Callable

import torch
from torch import Tensor

ReadAt = Tensor | int | None  # (B,) int64 positions, one position for all, or every position


def mask_of(attn_mask: Tensor, num_tokens: int, device: torch.device) -> Tensor:
    """What a mask says of the first `num_tokens` tokens, on their device.

    Not a slice, which is contiguous only at full length: an export with texts of any length would
    ask whether it is, and be of that length alone.
    """
    positions = torch.arange(num_tokens, device=device)
    return attn_mask.to(device).index_select(0, positions).index_select(1, positions)


def moved_by(fn: Callable, attn_mask: Tensor) -> Tensor:
    """A mask with the dtype and on the device that `fn` gives parameters, whatever is in those."""
    return attn_mask.to(fn(attn_mask.new_empty(0)))


def causal_mask(num_tokens: int, like: Tensor) -> Tensor:
    """(T, T), of the dtype and on the device of `like`: -inf where a token is not seen, else 0."""
    positions = torch.arange(num_tokens, device=like.device)
    hidden = positions > positions[:, None]
    return like.new_zeros(()).expand(hidden.shape).masked_fill(hidden, float("-inf"))


def hidden_behind(read_at: Tensor | int, num_tokens: int, device: torch.device) -> Tensor:
    """The rows of a causal mask for one query per sequence, True where nothing is read."""
    positions = torch.arange(num_tokens, device=device)
    if isinstance(read_at, int):
        return (positions > positions[read_at])[None]
    return (positions > read_at[:, None])[:, None, None]  # (B, 1, 1, T)
