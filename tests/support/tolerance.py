"""Error budgets: computed, not chosen.

    budget = 3 x (error of eager code that rounds where the kernel rounds + one ulp)

The error is that of the worst of several eager runs on the same problem with pairs and feature
dimensions permuted: a single run may be right by luck, above all in a scalar. Truth is float64
from the same low-precision inputs; norms are over the whole tensor. The ulp is that of the output
or, for the two scalars, of the numbers that cancel in them: the positive logits in the loss, the
terms of the sum in the gradient of logit_scale. Eager *in* bfloat16 would be no baseline: at
logit_scale 100 it lets a dropped column pass. That these budgets reject bugs is tested in
`tests/test_tolerance.py`.
"""

import hashlib
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.exact import value_and_grads

NUM_PERMUTATIONS = 5
FACTOR = 3.0
MOST_KNOWN = 64

_known: dict[tuple, tuple[list[Tensor], list[float]]] = {}


def check_value_and_grads(
    actual: tuple[Tensor, Sequence[Tensor]],
    function: Callable[..., Tensor],
    image_features: Tensor,  # (B, D)
    text_features: Tensor,  # (B, D)
    *scalars: Tensor,
    eager: Callable[..., Tensor] | None = None,
    **options,
) -> None:
    """Compare a loss and its gradients w.r.t. all inputs with `function` (of `exact.py`).

    eager: the same function as eager code that rounds where the kernel does, if that is more than
        float32 arithmetic (`rounded.py`).
    """
    inputs = (image_features, text_features, *scalars)
    outputs = [actual[0], *actual[1]]
    assert [grad.dtype for grad in actual[1]] == [x.dtype for x in inputs]
    assert [grad.shape for grad in actual[1]] == [x.shape for x in inputs]
    exact, budgets = _truth(
        function, eager or function, inputs, [x.dtype for x in outputs], options
    )
    names = ["loss", *(f"gradient {i}" for i in range(len(inputs)))]
    for name, output, true, budget in zip(names, outputs, exact, budgets, strict=True):
        error = distance(output, true)
        assert error <= budget, f"{name}: error {error:.3g} above its budget {budget:.3g}"


def _truth(
    function: Callable[..., Tensor],
    eager: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    dtypes: Sequence[torch.dtype],
    options: dict,
) -> tuple[list[Tensor], list[float]]:
    """Exact outputs and their budgets, kept for the other backends that get the same problem."""
    contents = [(x.dtype, x.shape, _digest(x)) for x in inputs]
    key = (function, eager, *contents, *dtypes, *sorted(options.items()))
    if key not in _known:
        value, grads = value_and_grads(function, *inputs, dtype=torch.float64, **options)
        exact = [value, *grads]
        while len(_known) >= MOST_KNOWN:
            del _known[next(iter(_known))]
        _known[key] = exact, error_budgets(eager, inputs, exact, dtypes, options)
    return _known[key]


def _digest(x: Tensor) -> bytes:
    return hashlib.sha256(x.detach().flatten().view(torch.uint8).numpy()).digest()


def error_budgets(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    exact: Sequence[Tensor],
    dtypes: Sequence[torch.dtype],
    options: dict,
) -> list[float]:
    """For the loss and each gradient, the largest error allowed to an output of `dtypes`."""
    errors = [0.0] * len(exact)
    compute = torch.float64 if inputs[0].dtype == torch.float64 else torch.float32
    for seed in range(NUM_PERMUTATIONS):
        eager = _permuted_eager(function, inputs, compute, seed, options)
        for i, (output, true, dtype) in enumerate(zip(eager, exact, dtypes, strict=True)):
            errors[i] = max(errors[i], distance(output.to(dtype), true))
    magnitudes = [x.norm().item() for x in exact]
    image, text, scale, *bias = (x.double() for x in inputs)
    if options.get("normalize"):
        image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
    magnitudes[0] += (scale * (image * text).sum(1)).norm().item() / len(image)
    if scale != 0:
        magnitudes[3] = _cancelling_terms(function, image, text, [scale, *bias], options)
    return [
        FACTOR * (error + torch.finfo(dtype).eps * magnitude)
        for error, dtype, magnitude in zip(errors, dtypes, magnitudes, strict=True)
    ]


def _cancelling_terms(function, image, text, scalars, options) -> float:
    """sum_ijd |G_ij image_id text_jd|, G the logits' gradient: the terms of logit_scale's."""
    # The cosines as the rows and an identity as the columns: the rows' gradient is scale * G.
    cosines, identity = image @ text.T, torch.eye(len(text), dtype=torch.float64)
    there = options | {"normalize": False}
    _, (grad, *_) = value_and_grads(
        function, cosines, identity, *scalars, dtype=torch.float64, **there
    )
    return ((grad / scalars[0]).abs() * (image.abs() @ text.abs().T)).sum().item()


def distance(actual: Tensor, exact: Tensor) -> float:
    return (actual.double() - exact.double()).norm().item()


def _permuted_eager(function, inputs, dtype, seed, options) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image, text, *scalars = inputs
    pairs = torch.randperm(image.shape[0], generator=generator)
    dims = torch.randperm(image.shape[1], generator=generator)
    there = [x[pairs][:, dims] for x in (image, text)]
    value, (grad_image, grad_text, *grad_scalars) = value_and_grads(
        function, *there, *scalars, dtype=dtype, **options
    )
    back = [grad[pairs.argsort()][:, dims.argsort()] for grad in (grad_image, grad_text)]
    return [value, *back, *grad_scalars]
