"""Compare a backend with `chunked` on small batches that are made to find bugs.

The batches are in `check_problems.py`. The truth is `chunked` in float64, on the same features. The
distance between an output and the truth may be at most

    FACTOR (distance of the same problem, rounded, from the truth + ulps of the output's size)

The rounded problem has the features that kernels multiply (`backends/gpu/operand.py`), and logits
that are smaller by some ulps of float32 for every 16 features: a tensor core, which rounds its sums
toward zero, may lose that much. The distance of the rounded problem is computed for the same batch,
dtype and D. Distances are for the worst row, so that one wrong row among good ones is found.

A backend that keeps the logits of small batches by default is checked with and without kept logits.
A kept logit may be off by half a step (`backends/gpu/precision.py`), and each term of a gradient's
sum by the effect of half a step.
"""

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from fastclip.backends import chunked
from fastclip.backends.gpu.precision import planes_for
from fastclip.backends.gpu.scalars import BOUND_MARGIN, KEPT_LEVELS
from fastclip.backends.reference import leave_out
from fastclip.ops.check_problems import Problem, lost_by, problems
from fastclip.ops.siglip_total import waiting_dtype
from fastclip.rectangle import BOTH

FACTOR = 3.0
# The relative error of every term of a sum of softplus: a GPU's exponential, 2^-22, and a
# polynomial.
APPROXIMATED = 2.0**-21
SIDES = ("rows", "columns")

Outputs = dict[str, Tensor]


class NoTruth(RuntimeError):
    """The truth could not be computed, so that nothing is known about the kernels."""


def disagreement(
    backend: ModuleType,
    primitive: str,
    device: torch.device,
    dtype: torch.dtype,
    D: int,
) -> str | None:
    """Describe the first wrong output of `backend`; return None if there is none.

    Args:
        primitive: "contrastive_lse", "siglip_sum", or "siglip_total", its sum with gradients from
            one pass. Forward and backward are checked, with every gradient.

    Raises:
        NoTruth: `chunked` raised an exception, which is the cause.
        Exception: `backend` raised it.
    """
    of = _FUNCTIONS[primitive]
    for problem in problems(primitive, device, dtype, D):
        try:
            exact, budgets = of(chunked, problem.exact()), _budgets(problem, of)
        except Exception as error:
            raise NoTruth(f"'chunked' raised {type(error).__name__}: {error}") from error
        wrong = _first_wrong(of(backend, problem), exact, budgets)
        where = f"on the {problem.name} batch"
        if wrong is None and (kept_rows := _kept_unasked(backend, primitive, problem)) > 0:
            for name, more in _lost_by_keeping(problem, exact).items():
                budgets[name] += FACTOR * more
            wrong = _first_wrong(of(backend, problem, kept_rows), exact, budgets)
            where += ", with kept logits"
        if wrong is not None:
            name, error = wrong
            return (
                f"{name} of {primitive}: off by {error:.2g}, where at most {budgets[name]:.2g} is "
                f"allowed, {where}"
            )
    return None


def _first_wrong(
    outputs: Outputs, exact: Outputs, budgets: dict[str, float]
) -> tuple[str, float] | None:
    """Return the first wrong output's name and its error, or None."""
    for name, output in outputs.items():
        error = _distance(output, exact[name])
        if not error <= budgets[name]:  # nan is wrong too
            return name, error
    return None


def _kept_unasked(backend: ModuleType, primitive: str, problem: Problem) -> int:
    """Return how many rows of logits a forward keeps where no workspace is given."""
    if primitive != "contrastive_lse":
        return 0
    rows, cols = problem.rectangle[:2]
    return backend.kept_layout(primitive, rows.dtype).num_rows(len(rows), len(cols), None)


def _lost_by_keeping(problem: Problem, exact: Outputs) -> dict[str, float]:
    """Return the error of each gradient's worst row if every kept logit is off by half a step."""
    rows, cols, scale = problem.of_units().rectangle[:3]
    lengths = len(rows), len(cols)
    logits = scale * rows @ cols.T
    logits.diagonal(problem.rectangle.pair_offset).fill_(float("-inf"))
    leave_out(problem.rectangle, logits, float("-inf"))
    of_rows, of_cols = exact["the log-sum-exps"].split(lengths)
    row_weights, col_weights = problem.weights.double().split(lengths)
    G = (logits - of_rows[:, None]).exp() * row_weights[:, None]
    G += (logits - of_cols).exp() * col_weights
    row_norms, col_norms = rows.norm(dim=1), cols.norm(dim=1)
    step = BOUND_MARGIN * scale * row_norms.max() * col_norms.max() / KEPT_LEVELS
    terms = [scale * G @ col_norms, scale * G.T @ row_norms]
    if problem.rectangle.normalize:
        terms = [
            x / features.double().norm(dim=1)
            for x, features in zip(terms, problem.rectangle[:2], strict=True)
        ]
    of_scale = row_norms @ G @ col_norms
    return {name: (step / 2 * x.max()).item() for name, x in _named(*terms, of_scale).items()}


def _contrastive_lse(backend: ModuleType, problem: Problem, kept_rows: int = 0) -> Outputs:
    rectangle, weights = problem.rectangle, problem.weights
    positive, shift, total, kept = backend.contrastive_lse(rectangle, None, kept_rows, False)
    grad_positive, grad_total = -weights[: len(positive)].to(positive.dtype), weights / total
    gradients = backend.contrastive_lse_backward(
        rectangle, grad_positive, grad_total, shift, kept, None, BOTH
    )
    # Shifts may differ: the log-sum-exps, which shift and total represent, are compared.
    lse = shift.double() + total.double().log()
    return {"the positives": positive, "the log-sum-exps": lse} | _named(*gradients)


def _siglip_sum(backend: ModuleType, problem: Problem) -> Outputs:
    rectangle, bias = problem.rectangle, problem.logit_bias
    row_loss, kept = backend.siglip_sum(rectangle, bias, None, 0)
    grad_row_loss = problem.weights[: len(row_loss)].to(row_loss.dtype)
    gradients = backend.siglip_sum_backward(rectangle, bias, grad_row_loss, kept, None, BOTH)
    return {"the row losses": row_loss} | _named(*gradients)


def _siglip_total(backend: ModuleType, problem: Problem) -> Outputs:
    rectangle, bias = problem.rectangle, problem.logit_bias
    if backend is chunked:  # it has no such pass
        of_rows = _siglip_sum(backend, problem._replace(weights=torch.ones_like(problem.weights)))
        row_loss = of_rows.pop("the row losses")
        return {"the sum of losses": row_loss.sum()} | of_rows
    dtype = waiting_dtype(rectangle.rows.dtype)
    total, *gradients = backend.siglip_sum_with_gradients(rectangle, bias, None, dtype, BOTH)
    return {"the sum of losses": total} | _named(*gradients)


_FUNCTIONS = {
    "contrastive_lse": _contrastive_lse,
    "siglip_sum": _siglip_sum,
    "siglip_total": _siglip_total,
}


def _named(*gradients: Tensor) -> Outputs:
    names = *SIDES, "logit_scale", "logit_bias"
    return {f"the gradient of {name}": x for name, x in zip(names, gradients, strict=False)}


def _budgets(problem: Problem, of: Callable[..., Outputs]) -> dict[str, float]:
    units, rounded = (of(chunked, x) for x in (problem.of_units(), problem.rounded()))
    rows, cols, scale = problem.of_units().rectangle[:3]
    # Only negatives lose ulps: a pair is not summed by a tensor core, and gradients have the
    # scale unchanged.
    for name in ("the positives", *(f"the gradient of {side}" for side in SIDES)):
        if name in rounded:
            rounded[name] /= 1.0 - lost_by(rows.shape[1])
    dtype = problem.rectangle.rows.dtype
    single = torch.finfo(torch.float32).eps
    of_planes = 2.0**-11 if planes_for(dtype) == 1 else 2.0**-22  # G is rounded to its planes

    # A shift is about as large as the largest logit that could be.
    bound = scale.item() * rows.norm(dim=1).max().item() * cols.norm(dim=1).max().item()
    budgets = {
        name: _distance(rounded[name], x) + single * (x.abs().max().item() + bound)
        for name, x in units.items()
    }
    for name in ("the row losses", "the sum of losses"):
        if name in units:
            budgets[name] += APPROXIMATED * units[name].abs().max().item()
    lengths = [
        x.double().norm(dim=1) if problem.rectangle.normalize else 1.0
        for x in problem.rectangle[:2]
    ]
    for side, length, terms in zip(SIDES, lengths, (len(cols), len(rows)), strict=True):
        name = f"the gradient of {side}"
        size = (units[name].norm(dim=1) / length).max().item()
        error = ((rounded[name] - units[name]).norm(dim=1) / length).max().item()
        ulps = torch.finfo(dtype).eps + of_planes + lost_by(terms)
        budgets[name] = error + ulps * size
    # These two are sums whose terms may cancel: their ulps are relative to the terms.
    of_rows = units["the gradient of rows"].norm(dim=1)
    ulps_and_terms = {
        "the gradient of logit_scale": (
            single + of_planes + lost_by(len(cols)), (of_rows * rows.norm(dim=1)).sum() / scale
        ),
        "the gradient of logit_bias": (single + of_planes, problem.weights.sum() * len(cols)),
    }  # fmt: skip
    for name, (ulps, terms) in ulps_and_terms.items():
        if name in units:
            budgets[name] = _distance(rounded[name], units[name]) + ulps * terms.item()
    return {name: FACTOR * budget for name, budget in budgets.items()}


def _distance(output: Tensor, exact: Tensor) -> float:
    """Return the distance of the worst row of a matrix, or of the worst element of a vector."""
    difference = output.double() - exact
    return (
        difference.reshape(len(difference) if difference.dim() else 1, -1).norm(dim=1).max().item()
    )
