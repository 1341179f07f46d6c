"""How far a provider's loss and gradients are from the exact ones.

Exact is float64 on the inputs as the provider gets them, so that rounding features to 16 bits is
not its error. The positive is kept out of the sums, here as in fastclip: on embeddings of a model
that fits, even float64 would return zero for lse - positive, and the gradient's p - 1 with it.

    clip     z_i = lse of row i's negatives - s_ii, z'_j of column j's;  loss = mean softplus(z, z')
             G_ij = (exp(s_ij - row_lse_i) + exp(s_ij - col_lse_j)) / 2N
             G_ii = -(sigmoid(z_i) + sigmoid(z'_i)) / 2N
    siglip   l_ij = s_ij + logit_bias, negated for pairs;  loss = sum softplus(l) / N
             G_ij = sigmoid(l_ij) / N, negated for pairs
    both     d image = logit_scale G text;  d text = logit_scale G^T image
             d logit_scale = <G, image text^T>;  d logit_bias = sum G

Rows go in chunks: memory is O(CHUNK_ROWS * N), and the case may be as large as patience allows.
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
    """The loss and the gradients of all inputs in float64; rows are normalised if asked."""
    image, text, *scalars = (x.detach().double() for x in inputs)
    function = {"clip": _exact_clip, "siglip": _exact_siglip}[objective]
    if not normalize:
        return function(image, text, *scalars)
    loss, gradients = function(*(prepared_rows(x, True) for x in (image, text)), *scalars)
    of_features = zip(gradients, (image, text), strict=False)
    through_norm = (prepared_rows_backward(grad, x, True) for grad, x in of_features)
    return Outcome(loss, (*through_norm, *gradients[2:]))


def errors(outcome: Outcome, truth: Outcome) -> dict[str, float]:
    """Relative errors, in norm: of the loss, and under each input's name of its gradient.

    Where the exact value is zero (a single pair), the error is the absolute one.
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
    # From here on the positive is included: the sum that probabilities are normalised by.
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
    """Exact where F.softplus overflows, or returns x beyond its threshold."""
    return -F.logsigmoid(-x)


def _gradients(
    image: Tensor, text: Tensor, logit_scale: Tensor, grad_logits: Callable[[slice], Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """d image, d text, d logit_scale and d logit_bias from G, a chunk of rows at a time."""
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
