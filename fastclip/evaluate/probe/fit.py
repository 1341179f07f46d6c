"""The minimum of a probe's objective, by L-BFGS with all rows at every step.

When is a fit at the minimum? A bound of the gradient alone does not say: where C is large and the
classes can be told apart, gradients of 1e-8 were seen with an objective that was a tenth above the
minimum. So the bound is tightened tenfold, again and again, until that changes the objective by
less than a given fraction of it. Where the gradient does not come within its bound, because steps
run out or because rounding hides where it goes down, the fit has not converged, however little
changed in the last step. The gradient is measured relative to that at W = 0, b = 0, where the path
of all C begins, also for a fit that begins at another one: a warm start is then as exact as a cold
one, and does not pay for more.
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
NO_GRADIENT = 1e-14  # what rounding leaves of 0 at W = 0, b = 0, where errors are of the order of 1
PRECISION = 1e-7  # of a probe that is tested; see `Fit.change`
PATH_PRECISION = 1e-3  # of probes that only choose C


@dataclass(frozen=True, eq=False)
class Fit:
    """A probe, and how near it is to the minimum.

    Attributes:
        c: the inverse strength of the penalty.
        weight: (K, D) float64.
        bias: (K,) float64.
        objective: C * sum of cross entropies + s/2 ||W||^2 (see `objective.py`).
        gradient: the largest entry of the gradient, as a fraction of that at W = 0, b = 0.
        change: by which fraction of itself the objective fell when the bound of the gradient was
            tightened tenfold and kept for the last time; infinite where it never was.
        iterations: steps of L-BFGS.
        is_converged: whether that change is within the precision that was asked.
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
    """Minimise for one C.

    Args:
        max_iter: steps after which it ends, converged or not.
        precision: of `Fit.change`.
        start: a fit with the same classes to begin with; by default W = 0, b = 0.
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
            break  # steps have run out, or none goes down any more: rounding hides the way
        change = (before - value) / value
        bound, before = bound * TIGHTER, value
    return Fit(
        c, *coordinates.weights(position), coordinates.in_full(value), largest / SCALE, change,
        iterations, change <= precision,
    )  # fmt: skip
