"""Compute how far the gradient of accumulated micro-batches is from the gradient of one loss.

    whole          d loss(N pairs)
    accumulated    d (1/k) sum over k micro-batches of loss(N/k pairs)
    error          |accumulated - whole| / |whole|, of the gradient of all features, in norm

All is in float64: the error does not come from rounding, but from missing candidates.
"""

import torch
from torch import Tensor

import fastclip
from fastclip.benchmarks.cases import Case, make_inputs

N, D = 1024, 64
PARTS = (2, 4, 8, 16)
COLUMNS = {
    "cone": "a new model: all features near one direction",
    "random": "unrelated features",
    "trained": "a trained model: pairs with a cosine of 0.89",
}
LOGIT_SCALE = 14.3


def accumulation_errors(data: str, parts: tuple[int, ...] = PARTS) -> list[float]:
    """Return the relative error of the accumulated gradient, for each number of micro-batches.

    Args:
        data: a kind of embeddings, see `fastclip.benchmarks.cases`.
        parts: numbers of micro-batches, divisors of N.

    Example:
        >>> accumulation_errors("trained", (1,))
        [0.0]
    """
    case = Case(N, D, torch.float64, LOGIT_SCALE, data)
    images, texts, scale = make_inputs(case)
    whole = _gradient(images, texts, scale, 1)
    errors = [_gradient(images, texts, scale, k) - whole for k in parts]
    return [float(error.norm() / whole.norm()) for error in errors]


def _gradient(images: Tensor, texts: Tensor, scale: Tensor, parts: int) -> Tensor:
    leaves = [x.clone().requires_grad_() for x in (images, texts)]
    micro_batches = zip(*(x.chunk(parts) for x in leaves), strict=True)
    loss = sum(fastclip.clip_loss(i, t, scale) for i, t in micro_batches) / parts
    return torch.cat(torch.autograd.grad(loss, leaves))
