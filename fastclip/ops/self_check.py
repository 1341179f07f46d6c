"""Whether a backend agrees with `chunked` on two small batches that find bugs.

The truth is `chunked` in float64, on the same features. An output may be as far from it as

    FACTOR (distance of the same problem, rounded, from the truth + ulps of the output's size)

The rounded problem has the features that kernels multiply (`backends/gpu/operand.py`), and logits
smaller by LOST_ULPS of float32 for every STEP features: so much may a tensor core lose, which
rounds its sums toward zero. Its distance is computed, on this very batch, dtype and D. Distances
are of the worst row, so that one wrong row among good ones is found.

Batches
    plain   random unit rows at a scale of 1, where float32 is within a few ulps: a column too many,
            or too few, is a thousand budgets away
    hard    at scale 100 or, sigmoid, 20: rows along and opposite to a hub, which no common shift
            serves; ties; hard negatives on both sides of every edge of a tile
Both are ragged rectangles in which some rows have no pair. With `normalize`, rows have other norms.
"""

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.backends import chunked
from fastclip.backends.gpu.operand import UNIT_FACTOR
from fastclip.backends.gpu.precision import planes_for
from fastclip.ops.siglip_total import waiting_dtype
from fastclip.rectangle import BOTH, Diagonal, Rectangle

FACTOR = 3.0
STEP = 16  # products that a tensor core adds up at a time
LOST_ULPS = 1.5  # of float32, in a step: addends are truncated as well as their sum
SIDES = ("rows", "columns")
EDGES = (63, 64, 127, 128, 255, 256)

Outputs = dict[str, Tensor]


def disagreement(
    backend: ModuleType,
    primitive: str,
    device: torch.device,
    dtype: torch.dtype,
    D: int,
    normalize: bool,
) -> str | None:
    """The first output of `backend` that is wrong, in words; None if there is none.

    Args:
        primitive: "contrastive_lse", "siglip_sum", or "siglip_total", its sum with gradients from
            one pass. Forward and backward are checked, with every gradient.
    """
    of = _FUNCTIONS[primitive]
    for problem in _problems(primitive, device, dtype, D, normalize):
        exact, budgets = of(chunked, problem.exact()), _budgets(problem, of)
        for name, output in of(backend, problem).items():
            error = _distance(output, exact[name])
            if not error <= budgets[name]:  # nan is wrong too
                return (
                    f"{name} of {primitive} was off by {error:.2g} where {budgets[name]:.2g} is "
                    f"allowed, on the {problem.name} batch"
                )
    return None


class Problem(NamedTuple):
    """One call of a primitive, and what comes in for its backward."""

    name: str
    rectangle: Rectangle
    logit_bias: Tensor  # ()
    weights: Tensor  # (M + N,)

    def exact(self) -> "Problem":
        """The same in float64."""
        rows, cols, scale = (x.double() for x in self.rectangle[:3])
        rectangle = self.rectangle._replace(rows=rows, cols=cols, logit_scale=scale)
        return self._replace(rectangle=rectangle, logit_bias=self.logit_bias.double())

    def of_units(self) -> "Problem":
        """The same in float64, where rows are normalised before: no projection of gradients."""
        if not self.rectangle.normalize:
            return self.exact()
        rows, cols = (F.normalize(x.double(), dim=1) for x in self.rectangle[:2])
        return self.exact()._with(rows=rows, cols=cols, normalize=False)

    def rounded(self) -> "Problem":
        """`of_units` with the operands, and about the logits, that kernels have."""
        rows, cols, scale = self.of_units().rectangle[:3]
        planes = planes_for(self.rectangle.rows.dtype)
        factors = [
            UNIT_FACTOR if self.rectangle.normalize else _power_of_two(x) for x in (rows, cols)
        ]
        rows, cols = (_as_operand(x, f, planes) for x, f in zip((rows, cols), factors, strict=True))
        scale = scale * (1.0 - _lost(rows.shape[1]))
        return self.of_units()._with(rows=rows, cols=cols, logit_scale=scale)

    def _with(self, **changes: Any) -> "Problem":
        return self._replace(rectangle=self.rectangle._replace(**changes))


def _problems(
    primitive: str, device: torch.device, dtype: torch.dtype, D: int, normalize: bool
) -> Iterator[Problem]:
    generator = torch.Generator("cpu").manual_seed(0)

    def unit(num_rows: int) -> Tensor:
        drawn = torch.randn(num_rows, D, generator=generator, dtype=torch.float64, device="cpu")
        return F.normalize(drawn, dim=1)

    def problem(name: str, rows: Tensor, cols: Tensor, offset: int, scale: float) -> Problem:
        sizes = torch.rand(len(rows) + len(cols), 2, generator=generator, device="cpu")
        if normalize:
            norms = torch.exp2(2.0 * sizes[:, 1:].double() - 1.0)
            rows, cols = rows * norms[: len(rows)], cols * norms[len(rows) :]
        of_features = {"dtype": dtype, "device": device}
        rectangle = Rectangle(
            rows.to(**of_features), cols.to(**of_features), torch.tensor(scale, device=device),
            Diagonal(offset), normalize=normalize,
        )  # fmt: skip
        bias = torch.tensor(-1.0, device=device)
        return Problem(name, rectangle, bias, sizes[:, 0].add(0.5).to(device))

    yield problem("plain", unit(139), unit(262), offset=-11, scale=1.0)
    hub, rows, cols = unit(1), unit(270), unit(139)
    rows = F.normalize(rows + 3.0 * hub, dim=1)
    rows[1::2] *= -1.0
    cols = F.normalize(cols + 2.0 * hub, dim=1)
    for edge in EDGES:
        if edge < len(cols):
            cols[edge] = F.normalize(cols[edge] + rows[edge + 1], dim=0)
    rows[9], cols[5] = rows[3], cols[3]
    scale = 100.0 if primitive == "contrastive_lse" else 20.0
    yield problem("hard", rows, cols, offset=4, scale=scale)


def _contrastive_lse(backend: ModuleType, problem: Problem) -> Outputs:
    rectangle, weights = problem.rectangle, problem.weights
    positive, shift, total, kept = backend.contrastive_lse(rectangle, None, 0, False)
    grad_positive, grad_total = -weights[: len(positive)].to(positive.dtype), weights / total
    gradients = backend.contrastive_lse_backward(
        rectangle, grad_positive, grad_total, shift, kept, None, BOTH
    )
    # Any shift will do; what is compared is what shift and total stand for.
    lse = shift.double() + total.double().log()
    return {"the positives": positive, "the log-sum-exps": lse} | _named(*gradients)


def _siglip_sum(backend: ModuleType, problem: Problem) -> Outputs:
    rectangle, bias, weights, _ = problem.rectangle, problem.logit_bias, problem.weights, None
    row_loss, kept = backend.siglip_sum(rectangle, bias, None, 0)
    grad_row_loss = weights[: len(row_loss)].to(row_loss.dtype)
    gradients = backend.siglip_sum_backward(rectangle, bias, grad_row_loss, kept, None, BOTH)
    return {"the row losses": row_loss} | _named(*gradients)


def _siglip_total(backend: ModuleType, problem: Problem) -> Outputs:
    rectangle, bias = problem.rectangle, problem.logit_bias
    if backend is chunked:
        ones = problem._replace(weights=torch.ones_like(problem.weights))
        outputs = _siglip_sum(backend, ones)
        return outputs | {"the sum of losses": outputs.pop("the row losses").sum()}
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


def _budgets(problem: Problem, of: Callable[[ModuleType, Problem], Outputs]) -> dict[str, float]:
    units, rounded = (of(chunked, x) for x in (problem.of_units(), problem.rounded()))
    rows, cols, scale = problem.of_units().rectangle[:3]
    # Of negatives only: a pair is no sum of a tensor core, and a gradient has the scale as it is.
    for name in ("the positives", *(f"the gradient of {side}" for side in SIDES)):
        if name in rounded:
            rounded[name] /= 1.0 - _lost(rows.shape[1])
    dtype = problem.rectangle.rows.dtype
    single = torch.finfo(torch.float32).eps
    of_planes = 2.0**-11 if planes_for(dtype) == 1 else 2.0**-22  # where G is rounded to them

    # A shift is about as large as the largest logit that could be.
    bound = scale.item() * rows.norm(dim=1).max().item() * cols.norm(dim=1).max().item()
    budgets = {
        name: _distance(rounded[name], x) + single * (x.abs().max().item() + bound)
        for name, x in units.items()
    }
    lengths = [
        x.double().norm(dim=1) if problem.rectangle.normalize else 1.0
        for x in problem.rectangle[:2]
    ]
    for side, length, terms in zip(SIDES, lengths, (len(cols), len(rows)), strict=True):
        name = f"the gradient of {side}"
        size = (units[name].norm(dim=1) / length).max().item()
        error = ((rounded[name] - units[name]).norm(dim=1) / length).max().item()
        ulps = torch.finfo(dtype).eps + of_planes + _lost(terms)
        budgets[name] = error + ulps * size
    # These two are sums of terms that may cancel: their ulps are those of the terms.
    name, ulps = (
        "the gradient of logit_scale",
        single + of_planes + _lost(len(cols)),
    )
    terms = (units["the gradient of rows"].norm(dim=1) * rows.norm(dim=1)).sum() / scale
    budgets[name] = _distance(rounded[name], units[name]) + ulps * terms.item()
    name = "the gradient of logit_bias"
    if name in units:
        terms = problem.weights.sum() * len(cols)
        budgets[name] = _distance(rounded[name], units[name]) + (single + of_planes) * terms.item()
    return {name: FACTOR * budget for name, budget in budgets.items()}


def _as_operand(features: Tensor, factor: float, planes: int) -> Tensor:
    """Rounded as `backends/gpu/operand.py` says."""
    operand = factor * features
    rounded = operand.half().double()
    if planes == 2:
        rounded += (operand - rounded).half().double()
    return rounded / factor


def _power_of_two(features: Tensor) -> float:
    return 2.0 ** (8 - math.frexp(features.abs().max().item())[1])


def _lost(num_terms: int) -> float:
    """The part of a sum of products that rounding toward zero may take."""
    return LOST_ULPS * 2.0**-23 * num_terms / STEP


def _distance(output: Tensor, exact: Tensor) -> float:
    """Of the worst row of a matrix, or the worst element of a vector."""
    difference = output.double() - exact
    return (
        difference.reshape(len(difference) if difference.dim() else 1, -1).norm(dim=1).max().item()
    )
