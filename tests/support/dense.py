"""A loss against the formula that anyone would write, with all scores at once, in float64."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastclip.benchmarks.cases import DATA
from tests.support.inputs import planted_features, square
from tests.support.tolerance import FACTOR, distance

Loss = Callable[..., Tensor]  # of features and a logit_scale
KINDS = (*DATA, "duplicates")


def views(num: int, N: int, D: int, kind: str = "random") -> list[Tensor]:
    """`num` matrices (N, D) in float64 whose rows i belong together, not all of norm 1."""
    kept = [planted_features(square(N, D), "random" if kind == "duplicates" else kind,
                             torch.float64, seed) for seed in range((num + 1) // 2)]  # fmt: skip
    made = [x for pair in kept for x in pair][:num]
    if kind == "duplicates":
        for x in made:
            x[1::2] = x[: 2 * (N // 2) : 2]
    return [x * (1 + torch.arange(N, dtype=x.dtype)[:, None] % 3) for x in made]


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1)


def log_softmax(scores: Tensor, dim: int = 1) -> Tensor:
    """With a logsumexp that is one number of the scores' dtype, as a loss without logits keeps it.

    At scores of 100 its rounding decides how exact float32 gradients are. torch's own function
    rounds it with AVX2, and without vectors takes the maximum off first, ten times as exact.
    """
    return scores - scores.logsumexp(dim, keepdim=True)


def cross_entropy(scores: Tensor, own: Tensor) -> Tensor:
    """The mean over rows; `own` is the column of each row's pair."""
    return -log_softmax(scores).gather(1, own[:, None]).mean()


def value_and_gradients(
    loss: Loss, features: list[Tensor], scale: float, dtype: torch.dtype
) -> list[Tensor]:
    """The loss, then its gradients w.r.t. all features and the scale; 0 of what it does not use."""
    leaves = [x.to(dtype).requires_grad_() for x in features]
    leaves.append(torch.tensor(scale, dtype=dtype, requires_grad=True))
    value = loss(*leaves)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    gradients = [torch.zeros_like(x) if g is None else g
                 for x, g in zip(leaves, gradients, strict=True)]  # fmt: skip
    return [value.detach(), *gradients]


def check_exact(loss: Loss, dense: Loss, features: list[Tensor], scale: float) -> None:
    """In float64 value and gradients are equal to 1e-10."""
    found = value_and_gradients(loss, features, scale, torch.float64)
    expected = value_and_gradients(dense, features, scale, torch.float64)
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == other.shape and one.dtype == torch.float64
        # A gradient that cancels is known to the rounding of its terms only.
        bound = 1e-10 * max(other.norm().item(), 1e-3)
        assert distance(one, other) <= bound, f"output {i}: {distance(one, other):.3g}"


def check_float32(
    loss: Loss, dense: Loss, features: list[Tensor], scale: float, roundings: int = 1
) -> None:
    """In float32 errors are at most FACTOR times the dense formula's, and an ulp of the scores.

    `roundings` says how often the logsumexp of a row is rounded: twice where those of two
    rectangles are merged.
    """
    features = [x.float() for x in features]
    exact = value_and_gradients(dense, features, scale, torch.float64)
    found = value_and_gradients(loss, features, scale, torch.float32)
    budgets = [0.0] * len(exact)
    for seed in range(3):
        order = torch.randperm(features[0].shape[1], generator=torch.Generator().manual_seed(seed))
        eager = value_and_gradients(dense, [x[:, order] for x in features], scale, torch.float32)
        eager[1:-1] = [x[:, order.argsort()] for x in eager[1:-1]]
        errors = [distance(one, other) for one, other in zip(eager, exact, strict=True)]
        budgets = [max(pair) for pair in zip(budgets, errors, strict=True)]
    ulp = torch.finfo(torch.float32).eps
    magnitudes = [x.norm().item() for x in exact]
    magnitudes[0] = max(magnitudes[0], scale)  # scores, which cancel in the loss
    magnitudes[-1] = max(magnitudes[-1], 1.0)  # cosines, which cancel in the scale's gradient
    for i, (one, other) in enumerate(zip(found, exact, strict=True)):
        assert one.dtype == torch.float32
        budget = FACTOR * (roundings * budgets[i] + ulp * magnitudes[i])
        error = distance(one, other)
        assert error <= budget, f"output {i}: error {error:.3g} above its budget {budget:.3g}"


# Every kind of data, at the scale of training's start or of its end.
PROBLEMS = [("random", 14.3), ("trained", 100.0), ("cone", 100.0), ("adversarial", 100.0),
            ("duplicates", 100.0)]  # fmt: skip


ONE_BLOCK = 2 << 20  # a workspace whose blocks of N = 2,048 columns are a twelfth of all scores


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that torch makes meanwhile."""

    num_elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, Tensor):
                self.num_elements = max(self.num_elements, x.numel())
        return result


def check_memory(loss: Loss, features: list[Tensor]) -> None:
    """No tensor of a loss by `chunked` within ONE_BLOCK is as large as all scores are."""
    with LargestTensor() as largest:
        value_and_gradients(loss, features, 14.3, torch.float32)
    N = max(len(x) for x in features)
    assert N >= 2048
    assert 0 < largest.num_elements <= N * N // 8
