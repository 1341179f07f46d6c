"""Prediction in parallel: drawing the captions for it, and the mask for their attention.

A decoder that reads the words so far can guess the next one from them, without the image. For a
fraction of the captions it gets masks in place of all words, and each position attends to all
others: then the image is the only source for the words that it predicts.

Source: Tschannen et al. 2023 (CapPa), arXiv:2306.07915, section 3; half of the captions in SigLIP 2
(Tschannen et al. 2025, arXiv:2502.14786, section 2).
"""

import torch
from torch import Tensor

from fastclip.models.parts.masks import causal_mask


def draw_parallel(
    num: int, fraction: float = 0.5, generator: torch.Generator | None = None
) -> Tensor:
    """Draw which of `num` captions are predicted in parallel; return (num,) bool on the CPU.

    Each caption is drawn independently, so their number varies. The result belongs to the batch
    and not to the model's forward, because a step that encodes a batch twice needs the same
    captions twice.

    Args:
        num: the number of captions.
        fraction: the expected fraction of captions that are predicted in parallel, in [0, 1].
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
    """Return the mask that is added to the logits of attention: 0 to attend to a token, else -inf.

    Args:
        parallel: (R,) bool, rows whose tokens attend to all tokens; in other rows a token attends
            to itself and to earlier ones.
        num_tokens: the number of tokens in a row.
        like: a tensor with the dtype and the device of the result.

    Returns:
        (R, 1, num_tokens, num_tokens), one mask for all heads of a row.
    """
    causal = causal_mask(num_tokens, like)
    return causal.masked_fill(parallel.to(like.device)[:, None, None, None], 0.0)
