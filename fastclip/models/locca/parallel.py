"""Prediction in parallel: which captions, and what their tokens see.

A decoder that reads the words so far can guess the next one from them alone. For a fraction of the
captions it gets masks in place of all words, and each position sees all others: what it writes
there it can only have seen in the image.

Source: Tschannen et al. 2023 (CapPa), arXiv:2306.07915, section 3; half of the captions in SigLIP 2
(Tschannen et al. 2025, arXiv:2502.14786, section 2).
"""

import torch
from torch import Tensor

from fastclip.models.parts.masks import causal_mask


def draw_parallel(
    num: int, fraction: float = 0.5, generator: torch.Generator | None = None
) -> Tensor:
    """Return (num,) bool on the CPU: which of so many captions are predicted in parallel.

    Each is drawn on its own, so that the number of them varies. It belongs to the batch and not to
    the model's forward: a step that encodes a batch twice needs the same captions twice.

    Args:
        fraction: of the captions, in [0, 1].
        generator: on the CPU; the same state draws the same captions. None is torch's own.

    Raises:
        ValueError: `num` is negative or `fraction` is not in [0, 1].

    Example:
        >>> draw_parallel(4, 0.5, torch.Generator().manual_seed(0))
        tensor([ True, False,  True,  True])
    """
    if num < 0:
        raise ValueError(f"num must not be negative, got {num}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    return torch.rand(num, generator=generator) < fraction


def mask_of_rows(parallel: Tensor, num_tokens: int, like: Tensor) -> Tensor:
    """What is added to the logits of attention: 0 where a token is seen, else -inf.

    Args:
        parallel: (R,) bool, rows whose tokens see all others; those of other rows see themselves
            and what is before them.
        like: has the dtype and the device of the result.

    Returns:
        (R, 1, num_tokens, num_tokens), one mask for all heads of a row.
    """
    causal = causal_mask(num_tokens, like)
    return causal.masked_fill(parallel.to(like.device)[:, None, None, None], 0.0)
