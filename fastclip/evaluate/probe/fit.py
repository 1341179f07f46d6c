"""Minimise the objective of a probe by L-BFGS, with all rows at every step.

A bound on the gradient alone does not say whether a fit is at the minimum: with a large C and
classes that can be separated, gradients of 1e-8 were seen while the objective was a tenth above its
minimum. The bound is therefore tightened tenfold, again and again, until a tightening changes the
objective by less than a given fraction. If the gradient does not get below its bound, because the
steps run out or because rounding hides the direction of descent, the fit has not converged, however
little changed in the last step. The gradient is measured relative to the gradient at W = 0, b = 0,
also for a fit that starts elsewhere: a warm start is then as exact as a cold one, and does not cost
more.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastclip.evaluate.probe.objective import Objective

HISTORY = 10
FIRST_BOUND = 1e-5
TIGHTER = 0.1
# torch drops a pair of differences whose product is below 1e-10, however small the objective is.
SCALE = 1e6
NO_GRADIENT = 1e-14  # a gradient this small at W = 0, b = 0 is 0 with rounding errors
PRECISION = 1e-7  # for a probe that is tested; see `Fit.change`
PATH_PRECISION = 1e-3  # for probes that only serve to choose C


@dataclass(frozen=True, eq=False)
class Fit:
    """The weights of a probe, and how near the fit is to the minimum.

    Attributes:
        c: the inverse strength of the penalty.
        weight: (K, D) float64.
        bias: (K,) float64.
        objective: C * sum of cross entropies + s/2 ||W||^2 (see `objective.py`).
        gradient: the largest entry of the gradient, as a fraction of the largest entry at W = 0,
            b = 0.
        change: the fraction by which the objective fell the last time that a tenfold tighter bound
            on the gradient was reached; infinite if there was no such time.
        iterations: steps of L-BFGS.
        is_converged: whether `change` is within the requested precision.
    """

    c: float
    weight: Tensor
    bias: Tensor
    objective: float
    gradient: float
    change: float
    iterations: int
    is_converged: bool


def fit(
    objective: Objective, c: float, max_iter: int, precision: float, start: Fit | None = None
) -> Fit:
    """Minimise the objective for one C.

    Args:
        objective: the objective, for any C.
        c: the inverse strength of the penalty.
        max_iter: the number of steps after which the fit ends, converged or not.
        precision: the largest `Fit.change` that counts as converged.
        start: a fit with the same classes to start from; by default W = 0, b = 0.
    """
    coordinates = objective.at(c)
    first = coordinates.value_and_gradient(coordinates.zero)[1].abs().max().item()
    scale = SCALE / first if first > NO_GRADIENT else SCALE
    position = (
        coordinates.zero if start is None else coordinates.coordinates(start.weight, start.bias)
    )
    optimizer = torch.optim.LBFGS(
        [position], history_size=HISTORY, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    (settings,) = optimizer.param_groups

    def closure() -> float:
        value, gradient = coordinates.value_and_gradient(position)
        position.grad = gradient * scale
        return value * scale

    bound, before, change, iterations = FIRST_BOUND, float("inf"), float("inf"), 0
    while change > precision and iterations < max_iter:
        settings["max_iter"] = max_iter - iterations
        settings["max_eval"] = 20 * settings["max_iter"]
        settings["tolerance_grad"] = bound * SCALE
        optimizer.step(closure)
        iterations = optimizer.state[position].get("n_iter", 0)
        value, gradient = coordinates.value_and_gradient(position)
        largest = gradient.abs().max().item() * scale
        if largest > settings["tolerance_grad"]:
            break  # the steps have run out, or rounding hides the direction of descent
        change = (before - value) / value
        bound, before = bound * TIGHTER, value
    return Fit(
        c, *coordinates.weights(position), coordinates.in_full(value), largest / SCALE, change,
        iterations, change <= precision,
    )  # fmt: skip
