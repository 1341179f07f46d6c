"""Masks of attention: what a tower makes of the one that it has, and the causal one.

A mask has (T, T) elements, one row per query, and is added to the logits: -inf where nothing is
read, else 0; or it is of booleans, True where nothing is read. One per sample and head, (B * heads,
T, T), is taken too.
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
    return attn_mask.to(device).index_select(-2, positions).index_select(-1, positions)


def mask_at(attn_mask: Tensor, read_at: Tensor | int) -> Tensor:
    """What a mask says of one query per sequence, as attention takes it.

    Returns:
        (1, T), (B, 1, 1, T) or, of a mask per head, (B * heads, 1, T) or (B, heads, 1, T).
    """
    if isinstance(read_at, int):
        return attn_mask[..., read_at, None, :]
    attn_mask = attn_mask.to(read_at.device)
    if attn_mask.ndim == 2:
        return attn_mask.index_select(0, read_at)[:, None, None]
    by_head = attn_mask.unflatten(0, (read_at.shape[0], -1))
    rows = read_at[:, None, None, None].expand(-1, by_head.shape[1], 1, by_head.shape[-1])
    return by_head.gather(2, rows)


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
