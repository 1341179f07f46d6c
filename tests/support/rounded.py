"""The losses in eager code that rounds where kernels with 16-bit tensor-core operands round.

features      in float32, normalised if asked
operands      float16, scaled by a power of two
logits        float32; kept ones, of which gradients are made, multiples of 1/32767 of the largest
              that is possible
their gradient G    float16, scaled by a power of two to a largest entry of about 2^14
its products  float32 sums; one rounding to the features' dtype at the end (`tolerance.py`)

or in float16 exponentials and sums of G, as PyTorch's own operators can (`..._of_exponentials`):

exponentials  of a sum scaled by 2^14, of each side's G by a power of two; their sum once more

and, for float32 features, where float32-grade products round: nowhere but in float32, in sums,
which a tensor core rounds once for every 16 features, and in logits in log2 units (`..._in_steps`).
"""

import math

import torch
import torch.nn.functional as F

from tests.support.exact import clip_loss_of_logits


class _RoundedOperand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        scale = 2.0 ** (7 - math.floor(math.log2(x.abs().max().item())))
        return (scale * x).to(torch.float16).to(x.dtype) / scale

    @staticmethod
    def backward(ctx, grad):
        return grad


class _RoundedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        largest = grad.abs().max().item()
        if largest == 0.0 or not math.isfinite(largest):
            return grad
        weight = 2.0 ** (13 - math.floor(math.log2(largest)))
        return (weight * grad).to(torch.float16).to(grad.dtype) / weight


class _RoundedValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (2.0**14 * x).to(torch.float16).to(x.dtype) / 2.0**14

    @staticmethod
    def backward(ctx, grad):
        return grad


class _KeptLogits(torch.autograd.Function):
    """The gradient of a negative, in proportion to its exponential, is that of a rounded logit."""

    @staticmethod
    def forward(ctx, logits, step):
        off = (logits / step).round() * step - logits
        ctx.factors = off.fill_diagonal_(0.0).exp()
        return logits.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factors, None


def clip_loss(image_features, text_features, logit_scale, normalize=False, reduction="mean"):
    logits = _logits(image_features, text_features, logit_scale, normalize)
    return clip_loss_of_logits(_RoundedGradient.apply(logits), reduction)


def clip_loss_of_exponentials(
    image_features, text_features, logit_scale, normalize=False, reduction="mean"
):
    logits = _logits(image_features, text_features, logit_scale, normalize)
    both = _RoundedGradient.apply(logits)
    pairs = torch.eye(len(logits), dtype=torch.bool)

    def loss(dim):
        negatives = _RoundedGradient.apply(both).masked_fill(pairs, float("-inf"))
        shift = negatives.detach().amax(dim, keepdim=True).clamp(min=-1e30)
        total = _RoundedValue.apply((negatives - shift).exp()).sum(dim)
        z = shift.squeeze(dim) - both.diagonal()
        return F.softplus(z + total.log(), threshold=80.0)

    losses = loss(0) + loss(1)
    return losses.mean() / 2 if reduction == "mean" else losses / 2


def clip_loss_of_kept_logits(
    image_features, text_features, logit_scale, normalize=False, reduction="mean"
):
    if normalize:
        image_features, text_features = (
            F.normalize(x, dim=1) for x in (image_features, text_features)
        )
    logits = _logits(image_features, text_features, logit_scale, normalize=False)
    norms = [x.detach().norm(dim=1).max() for x in (image_features, text_features)]
    step = 1.01 * logit_scale.detach().abs() * norms[0] * norms[1] / 32767
    logits = _KeptLogits.apply(_RoundedGradient.apply(logits), step)
    return clip_loss_of_logits(logits, reduction)


def clip_loss_in_steps(
    image_features, text_features, logit_scale, normalize=False, reduction="mean"
):
    logits = _logits_in_steps(image_features, text_features, logit_scale, normalize)
    return clip_loss_of_logits(logits, reduction)


def siglip_loss(
    image_features, text_features, logit_scale, logit_bias, normalize=False, reduction="mean"
):
    logits = _logits(image_features, text_features, logit_scale, normalize) + logit_bias
    return _siglip_loss_of_logits(_RoundedGradient.apply(logits), reduction)


def siglip_loss_in_steps(
    image_features, text_features, logit_scale, logit_bias, normalize=False, reduction="mean"
):
    logits = _logits_in_steps(image_features, text_features, logit_scale, normalize) + logit_bias
    return _siglip_loss_of_logits(logits, reduction)


def _siglip_loss_of_logits(logits, reduction):
    labels = 2 * torch.eye(len(logits), dtype=logits.dtype) - 1
    losses = -F.logsigmoid(labels * logits).sum(1)
    return losses.mean() if reduction == "mean" else losses


def _logits(rows, cols, logit_scale, normalize):
    if normalize:
        rows, cols = F.normalize(rows, dim=1), F.normalize(cols, dim=1)
    return logit_scale * (_RoundedOperand.apply(rows) @ _RoundedOperand.apply(cols).T)


def _logits_in_steps(rows, cols, logit_scale, normalize):
    if normalize:
        rows, cols = F.normalize(rows, dim=1), F.normalize(cols, dim=1)
    product = torch.zeros(len(rows), len(cols), dtype=rows.dtype)
    for a, b in zip(rows.split(16, dim=1), cols.split(16, dim=1), strict=True):
        product = product + a @ b.T
    log2_e = 1 / math.log(2)
    return (logit_scale * log2_e) * product / log2_e
