"""The cross-entropy of each token's label, without the logits of all tokens.

    loss_i = logsumexp_v <hidden_i, vocabulary_v> - <hidden_i, vocabulary_label_i>

The logits of one block of tokens are computed, used and dropped; the backward computes them again.
Only one sum per token is kept. torch 2.13 has the same function, `linear_cross_entropy` of
`torch.nn.functional`, but rounds the losses of bfloat16 states to bfloat16, which leaves three
digits of a caption's loss, and older versions that fastclip supports do not have it. Therefore
fastclip computes the losses of tokens here, in float32.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_NUMBERS = 2**26  # of logits: 256 MiB in float32


def token_losses(
    hidden: Tensor,
    vocabulary: Tensor,
    labels: Tensor,
    ignored: int,
    block_numbers: int = BLOCK_NUMBERS,
) -> Tensor:
    """Return the cross-entropy of each token, 0 where its label is `ignored`.

    Args:
        hidden: (..., W) states of a decoder, floating-point.
        vocabulary: (W, V) matrix that maps states to logits; products have autocast's dtype in its
            context, and the dtype of `hidden` elsewhere.
        labels: (...) int64, the shape of `hidden` without W.
        ignored: the label of padding.
        block_numbers: the largest number of logits that are held at a time.

    Returns:
        (...) losses in nats, float32, or float64 for float64 states.

    Raises:
        ValueError: the shapes do not fit together.

    Example:
        >>> token_losses(states, decoder.text_projection, tokens[:, 1:], ignored=0).sum()
    """
    if labels.shape != hidden.shape[:-1] or vocabulary.shape[:-1] != hidden.shape[-1:]:
        raise ValueError(
            "hidden, vocabulary and labels must be (..., W), (W, V) and (...), got "
            f"{tuple(hidden.shape)}, {tuple(vocabulary.shape)} and {tuple(labels.shape)}"
        )
    device, dtype = hidden.device.type, hidden.dtype
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    block = max(1, block_numbers // vocabulary.shape[1])
    with torch.autocast(device, enabled=False):
        losses = _TokenLosses.apply(
            hidden.flatten(0, -2).to(dtype), vocabulary.to(dtype), labels.flatten(), ignored, block
        )
    return losses.view(labels.shape)


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, vocabulary, labels, ignored, block):
        shifts, losses = [], []
        for rows, own in zip(hidden.split(block), labels.split(block), strict=True):
            logits = _logits(rows, vocabulary)
            shift = logits.logsumexp(-1)
            loss = shift - logits.gather(-1, own[:, None])[:, 0]
            shifts.append(shift)
            losses.append(torch.where(own == ignored, 0.0, loss))
        ctx.save_for_backward(hidden, vocabulary, labels, torch.cat(shifts))
        ctx.ignored, ctx.block = ignored, block
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        hidden, vocabulary, labels, shifts = ctx.saved_tensors
        gradient = torch.where(labels == ctx.ignored, 0.0, gradient)
        of_hidden = torch.empty_like(hidden)
        # Blocks are added in float32, whatever the dtype of the products.
        of_vocabulary = torch.zeros_like(vocabulary, dtype=shifts.dtype)
        parts = (t.split(ctx.block) for t in (hidden, labels, shifts, gradient, of_hidden))
        for rows, own, shift, weight, out in zip(*parts, strict=True):
            slopes = _logits(rows, vocabulary).sub_(shift[:, None]).exp_()
            slopes.scatter_add_(-1, own[:, None], slopes.new_full((len(own), 1), -1.0))
            slopes = slopes.mul_(weight[:, None]).to(rows.dtype)
            out.copy_(slopes @ vocabulary.T)
            of_vocabulary += rows.T @ slopes
        return of_hidden, of_vocabulary.to(vocabulary.dtype), None, None, None


def _logits(rows: Tensor, vocabulary: Tensor) -> Tensor:
    logits = rows @ vocabulary
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
