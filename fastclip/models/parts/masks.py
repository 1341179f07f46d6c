"""Attention masks: the causal mask, and the parts of a tower's mask that a call needs.

A mask has (T, T) elements, one row per query. It is added to the logits, -inf where nothing is read
and else 0; or it consists of booleans, True where nothing is read. A mask per sample and head,
(B * heads, T, T), is allowed, too.
"""

from collections.abc import Callable

import torch
from torch import Tensor

ReadAt = Tensor | int | None  # (B,) int64 positions, one position for all, or every position


def mask_of(attn_mask: Tensor, num_tokens: int, device: torch.device) -> Tensor:
    """Return the part of a mask for the first `num_tokens` tokens, on their device.

    The part is not a slice. A slice is contiguous only at full length; an export for texts of any
    length would check that, and then be valid for one length only.
    """
    positions = torch.arange(num_tokens, device=device)
    return attn_mask.to(device).index_select(-2, positions).index_select(-1, positions)


def mask_at(attn_mask: Tensor, read_at: Tensor | int) -> Tensor:
    """Return the rows of a mask for one query per sequence, in a shape that attention takes.

    Returns:
        (1, T), (B, 1, 1, T) or, for a mask per head, (B * heads, 1, T) or (B, heads, 1, T).
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
    """Return a mask in the dtype and on the device to which `fn` moves parameters."""
    return attn_mask.to(fn(attn_mask.new_empty(0)))


def causal_mask(num_tokens: int, like: Tensor) -> Tensor:
    """Return a (T, T) mask like `like` in dtype and device: -inf for later tokens, else 0."""
    positions = torch.arange(num_tokens, device=like.device)
    hidden = positions > positions[:, None]
    return like.new_zeros(()).expand(hidden.shape).masked_fill(hidden, float("-inf"))


def hidden_behind(read_at: Tensor | int, num_tokens: int, device: torch.device) -> Tensor:
    """Return the rows of a causal mask for one query per sequence, True where nothing is read."""
    positions = torch.arange(num_tokens, device=device)
    if isinstance(read_at, int):
        return (positions > positions[read_at])[None]
    return (positions > read_at[:, None])[:, None, None]  # (B, 1, 1, T)
