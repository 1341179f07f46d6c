"""The losses as anyone would write them, in plain differentiable PyTorch.

In float64 they are the truth; in float32, with inputs and outputs in the inputs' dtype, they are
the eager code that rounds where the kernels round, whose error sets the budget (`tolerance.py`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def clip_loss(image_features, text_features, logit_scale, normalize=False, reduction="mean"):
    return clip_loss_of_logits(
        _logits(image_features, text_features, logit_scale, normalize), reduction
    )


def clip_loss_of_logits(logits, reduction="mean"):
    # Through the negatives' log-sum-exp: cross_entropy loses a loss below 1e-7 even in the mean.
    negatives = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), float("-inf"))
    losses = sum(
        F.softplus(negatives.logsumexp(dim) - logits.diagonal(), threshold=80.0) for dim in (0, 1)
    )
    return losses.mean() / 2 if reduction == "mean" else losses / 2


def siglip_loss(
    image_features, text_features, logit_scale, logit_bias, normalize=False, reduction="mean"
):
    logits = _logits(image_features, text_features, logit_scale, normalize) + logit_bias
    labels = 2 * torch.eye(len(logits), dtype=logits.dtype) - 1
    losses = -F.logsigmoid(labels * logits).sum(1)
    return losses.mean() if reduction == "mean" else losses


def contrastive_lse(rows, cols, logit_scale, positive_offset, normalize=False):
    """positive (M,) and the log-sum-exp of the negatives, (M + N,)."""
    logits = _logits(rows, cols, logit_scale, normalize)
    pairs = torch.zeros_like(logits, dtype=torch.bool)
    pairs.diagonal(positive_offset).fill_(True)
    negatives = logits.masked_fill(pairs, float("-inf"))
    positive = torch.where(pairs, logits, 0.0).sum(1)
    return positive, torch.cat([_logsumexp(negatives, 1), _logsumexp(negatives, 0)])


def siglip_sum(rows, cols, logit_scale, logit_bias, positive_offset, normalize=False):
    logits = _logits(rows, cols, logit_scale, normalize) + logit_bias
    labels = -torch.ones_like(logits)
    labels.diagonal(positive_offset).fill_(1.0)
    return -F.logsigmoid(labels * logits).sum(1)


def value_and_grads(function, *inputs: Tensor, dtype: torch.dtype, **options):
    """The value of `function` computed in `dtype`, and its gradients for all inputs."""
    leaves = [x.detach().to(dtype).requires_grad_() for x in inputs]
    value = function(*leaves, **options)
    return value.detach(), torch.autograd.grad(value, leaves)


def _logits(rows, cols, logit_scale, normalize):
    if normalize:
        rows, cols = F.normalize(rows, dim=1), F.normalize(cols, dim=1)
    return logit_scale * (rows @ cols.T)


def _logsumexp(negatives, dim):
    # A row without negatives: -inf, with a gradient of zero instead of nan.
    empty = (negatives == float("-inf")).all(dim, keepdim=True)
    value = negatives.masked_fill(empty, 0.0).logsumexp(dim)
    return value.masked_fill(empty.squeeze(dim), float("-inf"))
