"""Compute what float32 and 16 bits do to a contrastive loss, as numbers for a page.

"Eager" is the usual formula in PyTorch, with `torch.nn.functional.cross_entropy`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

import fastclip
from fastclip.benchmarks.accuracy import errors, exact
from fastclip.benchmarks.cases import Case, make_inputs
from fastclip.benchmarks.step import Outcome

N, D = 256, 256
SMALLEST_NORMAL = torch.finfo(torch.float32).tiny


def eager_loss(images: Tensor, texts: Tensor, logit_scale: Tensor) -> Tensor:
    """Compute the dense loss in the dtype of the features."""
    logits = logit_scale.to(images.dtype) * images @ texts.T
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def losses_of_a_margin(margin: float) -> tuple[float, float, float]:
    """Return the true, our and the eager loss of two pairs whose logits are `margin` and 0.

    The true loss is log(1 + exp(-margin)); the others are computed in float32.

    Example:
        >>> losses_of_a_margin(30.0)
        (9.357622968839737e-14, 9.357622912219837e-14, 0.0)
    """
    features, scale = torch.eye(2), torch.tensor(margin)
    truth = torch.tensor(-margin, dtype=torch.float64).exp().log1p()
    ours = fastclip.clip_loss(features, features, scale)
    return float(truth), float(ours), float(eager_loss(features, features, scale))


def subnormal_fraction(logit_scale: float, data: str = "trained") -> float:
    """Return the fraction of a softmax's negatives below float32's normal numbers."""
    images, texts, _ = make_inputs(Case(N, D, torch.float64, logit_scale, data))
    probabilities = (logit_scale * images @ texts.T).softmax(1)
    off = ~torch.eye(N, dtype=torch.bool)
    return float((probabilities[off] < SMALLEST_NORMAL).double().mean())


def error_of_rounded_probability(probability: float, dtype: torch.dtype) -> float:
    """Return the relative error of p - 1, a positive's gradient, if p is rounded to `dtype`."""
    exact_one = probability - 1
    rounded = torch.tensor(probability, dtype=torch.float64).to(dtype).double().item() - 1
    return abs(rounded - exact_one) / abs(exact_one)


def gradient_errors(data: str, dtype: torch.dtype, logit_scale: float = 100.0) -> Sequence[float]:
    """Return the relative errors of the images' gradient, ours and eager, against float64.

    Both get the same inputs, already rounded to `dtype`, so this rounding is not counted.
    """
    inputs = make_inputs(Case(N, D, dtype, logit_scale, data))
    truth = exact("clip", inputs)
    return [
        errors(_outcome(function, inputs), truth)["image_features"]
        for function in (fastclip.clip_loss, eager_loss)
    ]


def _outcome(function, inputs: tuple[Tensor, ...]) -> Outcome:
    leaves = [x.clone().requires_grad_() for x in inputs]
    loss = function(*leaves)
    return Outcome(loss.detach(), torch.autograd.grad(loss, leaves))
