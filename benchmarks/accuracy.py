"""Measure how far a provider's loss and gradients are from the exact ones.

The exact result is float64 on the same inputs, so that rounding features to 16 bits does not count
as the provider's error. The positive is kept out of the sums, as in fastclip: on embeddings of a
model that fits, even float64 would return zero for lse - positive, and for the gradient's p - 1.

    clip     z_i = lse of row i's negatives - s_ii, z'_j of column j's;  loss = mean softplus(z, z')
             G_ij = (exp(s_ij - row_lse_i) + exp(s_ij - col_lse_j)) / 2N
             G_ii = -(sigmoid(z_i) + sigmoid(z'_i)) / 2N
    siglip   l_ij = s_ij + logit_bias, negated for pairs;  loss = sum softplus(l) / N
             G_ij = sigmoid(l_ij) / N, negated for pairs
    both     d image = logit_scale G text;  d text = logit_scale G^T image
             d logit_scale = <G, image text^T>;  d logit_bias = sum G

Rows are taken in chunks: memory is O(CHUNK_ROWS * N), and time limits the size of a case.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.backends.normalization import prepared_rows, prepared_rows_backward
from fastclip.benchmarks.step import Outcome

CHUNK_ROWS = 256
INPUT_NAMES = ("image_features", "text_features", "logit_scale", "logit_bias")


def exact(objective: str, inputs: tuple[Tensor, ...], normalize: bool = False) -> Outcome:
    """Return the loss and the gradients of all inputs in float64; normalise rows if asked."""
    image, text, *scalars = (x.detach().double() for x in inputs)
    function = {"clip": _exact_clip, "siglip": _exact_siglip}[objective]
    if not normalize:
        return function(image, text, *scalars)
    loss, gradients = function(*(prepared_rows(x, True) for x in (image, text)), *scalars)
    of_features = zip(gradients, (image, text), strict=False)
    through_norm = (prepared_rows_backward(grad, x, True) for grad, x in of_features)
    return Outcome(loss, (*through_norm, *gradients[2:]))


def errors(outcome: Outcome, truth: Outcome) -> dict[str, float]:
    """Return relative errors, in norm: of the loss, and of the gradient of each input by name.

    If the exact value is zero (a single pair), the error is absolute.
    """
    measured = {"loss": _relative(outcome.loss, truth.loss)}
    pairs = zip(outcome.gradients, truth.gradients, strict=True)
    gradients = (_relative(gradient, exact_one) for gradient, exact_one in pairs)
    measured.update(zip(INPUT_NAMES, gradients, strict=False))
    measured["loss_absolute"] = abs(float(outcome.loss) - float(truth.loss))
    return measured


def _relative(value: Tensor, truth: Tensor) -> float:
    error, size = (value.double() - truth).norm(), truth.norm()
    return float(error / size if size > 0 else error)


def _exact_clip(image: Tensor, text: Tensor, logit_scale: Tensor) -> Outcome:
    N = len(image)

    def logits_of(chunk: slice) -> Tensor:
        return logit_scale * (image[chunk] @ text.T)

    row_lse, positive = image.new_empty(N), image.new_empty(N)
    col_lse = image.new_full((N,), float("-inf"))
    for chunk in _chunks(N):
        logits = logits_of(chunk)
        pairs = logits.diagonal(chunk.start)
        positive[chunk] = pairs
        pairs.fill_(float("-inf"))
        row_lse[chunk] = logits.logsumexp(1)
        col_lse = torch.logaddexp(col_lse, logits.logsumexp(0))
    row_z, col_z = row_lse - positive, col_lse - positive
    loss = (_softplus(row_z) + _softplus(col_z)).mean() / 2
    # From here on, the positive is in the sum, by which probabilities are normalised.
    row_lse, col_lse = torch.logaddexp(row_lse, positive), torch.logaddexp(col_lse, positive)

    def grad_logits(chunk: slice) -> Tensor:
        logits = logits_of(chunk)
        G = (logits - row_lse[chunk, None]).exp_() + (logits - col_lse).exp_()
        G.diagonal(chunk.start).copy_(-(row_z[chunk].sigmoid() + col_z[chunk].sigmoid()))
        return G / (2 * N)

    *gradients, _ = _gradients(image, text, logit_scale, grad_logits)
    return Outcome(loss, tuple(gradients))


def _exact_siglip(image: Tensor, text: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Outcome:
    N = len(image)

    def signed_logits_of(chunk: slice) -> Tensor:
        logits = logit_scale * (image[chunk] @ text.T) + logit_bias
        logits.diagonal(chunk.start).neg_()
        return logits

    def grad_logits(chunk: slice) -> Tensor:
        G = signed_logits_of(chunk).sigmoid() / N
        G.diagonal(chunk.start).neg_()
        return G

    loss = sum(_softplus(signed_logits_of(chunk)).sum() for chunk in _chunks(N)) / N
    return Outcome(loss, _gradients(image, text, logit_scale, grad_logits))


def _softplus(x: Tensor) -> Tensor:
    """Softplus that stays exact where F.softplus overflows or returns x beyond its threshold."""
    return -F.logsigmoid(-x)


def _gradients(
    image: Tensor, text: Tensor, logit_scale: Tensor, grad_logits: Callable[[slice], Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute d image, d text, d logit_scale and d logit_bias from G, by chunks of rows."""
    grad_image, grad_text = torch.empty_like(image), torch.zeros_like(text)
    grad_bias = image.new_zeros(())
    for chunk in _chunks(len(image)):
        G = grad_logits(chunk)
        grad_image[chunk] = G @ text
        grad_text += G.T @ image[chunk]
        grad_bias = grad_bias + G.sum()
    grad_scale = (grad_image * image).sum()
    return grad_image * logit_scale, grad_text * logit_scale, grad_scale, grad_bias


def _chunks(N: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK_ROWS, N)) for start in range(0, N, CHUNK_ROWS))
