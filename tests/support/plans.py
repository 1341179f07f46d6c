"""Random plans of contrastive losses, computed by a backend, and what error it may have.

The rectangles of a plan are blocks of one grid: the same sets of features meet as rows and columns
of several of them, so that their statistics can be merged, and one set has gradients of several.
"""

import functools
import random
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip import reference
from fastclip.ops import dispatch
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.merge import merge
from fastclip.rectangle import BOTH, COLUMNS, ROWS, Diagonal, Interval, Rectangle
from fastclip.reference import Part, Plan
from tests.support.tolerance import FACTOR, distance

D = 12
NUM_PERMUTATIONS = 2
SIZES = (1, 2, 9, 17, 33, 65)
Inputs = list[Tensor]  # sets of rows, sets of columns, and a scale


class RandomPlan(NamedTuple):
    """`make(*inputs)` is the plan, of twins of the inputs in any dtype."""

    inputs: Inputs
    make: Callable[..., Plan]


class WeightedSum:
    """A scalar with given, random gradients w.r.t. all that a plan's function sees."""

    def __init__(self, seed: int, magnitude: bool = False) -> None:
        self.seed, self.magnitude = seed, magnitude

    def __call__(self, positives: list[Tensor], merged: list[Tensor]) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        total = positives[0].new_zeros(())
        for values in (*positives, *merged):
            weights = torch.randn(len(values), generator=generator, dtype=torch.float64)
            # What has no negatives counts 0, and its gradient is asked for all the same.
            terms = weights.to(values) * values.where(values.isfinite(), values.detach() * 0 + 1)
            terms = terms.where(values.isfinite(), 0.0)
            total = total + (terms.abs() if self.magnitude else terms).sum()
        return total


def random_plan(
    seed: int, dtype: torch.dtype = torch.float64, with_intervals: bool = True
) -> RandomPlan:
    """Two to five rectangles of a grid of up to 2 x 3 sets of features."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    num_rows, num_cols = rng.choice([(1, 2), (1, 3), (2, 1), (2, 2), (2, 3)])
    cells = [(r, c) for r in range(num_rows) for c in range(num_cols)]
    cells = rng.sample(cells, min(len(cells), rng.randint(2, 5)))
    sizes = [rng.choice(SIZES) for _ in range(num_rows + num_cols)]
    features = [torch.randn(size, D, generator=generator, dtype=torch.float64) for size in sizes]
    normalize = rng.random() < 0.4
    features = [3 * x if normalize else F.normalize(x, dim=1) for x in features]
    scale = torch.tensor(rng.choice([1.0, 14.3, 60.0]), dtype=torch.float64)
    fields = []
    for r, c in cells:
        M, N = sizes[r], sizes[num_rows + c]
        positives = rng.choice([None, Diagonal(0), Diagonal(rng.randint(-M - 1, N + 1))])
        excluded = random_interval(M, N, generator) if rng.random() < 0.5 else None
        excluded = excluded if with_intervals else None
        fields.append((positives, excluded, normalize, rng.choice([ROWS, COLUMNS, BOTH, BOTH])))
    merges = []
    for axis, side in enumerate(("rows", "columns")):
        for number in range((num_rows, num_cols)[axis]):
            parts = [Part(k, side) for k, cell in enumerate(cells)
                     if cell[axis] == number and fields[k][3][axis]]  # fmt: skip
            merges += [parts] if parts else []

    def make(*inputs: Tensor) -> Plan:
        *sets, scale = inputs
        rectangles = [
            Rectangle(sets[r], sets[num_rows + c], scale, *of)
            for (r, c), of in zip(cells, fields, strict=True)
        ]
        return Plan(rectangles, merges, WeightedSum(seed))

    return RandomPlan([*(x.to(dtype) for x in features), scale.to(dtype)], make)


def random_interval(M: int, N: int, generator: torch.Generator) -> Interval:
    """Some empty, some of all columns, some beyond the edges."""
    begin = torch.randint(-3, N + 2, (M,), generator=generator, dtype=torch.int32)
    end = begin + torch.randint(-2, N // 2 + 3, (M,), generator=generator, dtype=torch.int32)
    begin[::7], end[::7] = 0, N
    return Interval(begin, end)


def evaluate(plan: Plan, backend: str) -> Tensor:
    """As `reference.evaluate` does it, by a backend."""
    positives, sides = [], []
    for rectangle in plan.rectangles:
        call = dispatch.plan("contrastive_lse", backend, rectangle, None)
        positive, shift, total, _ = contrastive_lse(rectangle, call)
        rows, cols = zip(*(x.split(rectangle.lengths) for x in (shift, total)), strict=True)
        positives.append(positive)
        sides.append({"rows": rows, "columns": cols})
    merged = [merge([sides[k][side] for k, side in parts]) for parts in plan.merges]
    return plan.function(positives, [shift + total.log() for shift, total in merged])


def value_and_gradients(
    random: RandomPlan, evaluate: Callable[[Plan], Tensor], dtype: torch.dtype | None = None
) -> list[Tensor]:
    """The value of a plan and its gradients w.r.t. the inputs; zero where it has none."""
    leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in random.inputs]
    value = evaluate(random.make(*leaves))
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return [value.detach(), *gradients]


def check(seed: int, dtype: torch.dtype, backend: str) -> None:
    """Compare a backend with the reference; without intervals if it refuses them."""
    takes_intervals = dispatch.objection(backend, "cpu", dtype, True) is None
    random = random_plan(seed, dtype, takes_intervals)
    found = value_and_gradients(random, lambda plan: evaluate(plan, backend))
    names = ["value", *(f"gradient {i}" for i in range(len(random.inputs)))]
    truths, budgets = _truth(seed, dtype, takes_intervals)
    for name, actual, true, budget in zip(names, found, truths, budgets, strict=True):
        assert actual.dtype == dtype and actual.shape == true.shape
        if dtype == torch.float64:
            torch.testing.assert_close(actual, true, rtol=1e-10, atol=1e-12, msg=_beyond(name))
            continue
        error = distance(actual, true)
        assert error <= budget, f"{name}: error {error:.3g} above its budget {budget:.3g}"


def _beyond(name: str) -> Callable[[str], str]:
    return lambda message: f"{name}: above its budget: {message}"


@functools.cache
def _truth(seed: int, dtype: torch.dtype, with_intervals: bool) -> tuple[list[Tensor], list[float]]:
    """The outputs of the reference, and the error that each may have: see `tolerance.py`."""
    random = random_plan(seed, dtype, with_intervals)
    truth = value_and_gradients(random, reference.evaluate, torch.float64)
    if dtype == torch.float64:
        return truth, [0.0] * len(truth)
    errors = [0.0] * len(truth)
    for permutation in range(NUM_PERMUTATIONS):
        dims = torch.randperm(D, generator=torch.Generator().manual_seed(permutation))
        permuted = random._replace(inputs=_of_dims(random.inputs, dims))
        eager = value_and_gradients(permuted, lambda plan: reference.evaluate(plan, dtype))
        eager = _of_dims(eager, dims.argsort())
        errors = [max(e, distance(x, y)) for e, x, y in zip(errors, eager, truth, strict=True)]
    eps = torch.finfo(dtype).eps
    return truth, [
        FACTOR * (error + eps * magnitude)
        for error, magnitude in zip(errors, _magnitudes(random, truth), strict=True)
    ]


def _of_dims(tensors: Inputs, dims: Tensor) -> Inputs:
    return [x[:, dims] if x.dim() == 2 else x for x in tensors]


def _magnitudes(random: RandomPlan, truth: list[Tensor]) -> list[float]:
    """Of each output, the norm of the numbers whose rounding it cannot escape."""
    inputs = [x.double() for x in random.inputs]
    plan = random.make(*inputs)
    terms = reference.evaluate(plan._replace(function=WeightedSum(plan.function.seed, True)))
    return [terms.item(), *(x.norm().item() for x in truth[1:-1]), _terms_of_scale(plan)]


def _terms_of_scale(plan: Plan) -> float:
    """sum_ijd |G_ij row_id col_jd| over all rectangles, G the logits' gradient."""
    flat, leaves, found = [], [], 0.0
    one = torch.ones((), dtype=torch.float64)
    for rectangle in plan.rectangles:
        rows, cols = _prepared(rectangle)
        leaves.append((rectangle.logit_scale * rows @ cols.T).requires_grad_())
        eye = torch.eye(len(cols), dtype=torch.float64)
        flat.append(rectangle._replace(rows=leaves[-1], cols=eye, logit_scale=one, normalize=False))
    value = reference.evaluate(plan._replace(rectangles=flat))
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    for rectangle, gradient in zip(plan.rectangles, gradients, strict=True):
        rows, cols = _prepared(rectangle)
        found += (gradient.abs() * (rows.abs() @ cols.abs().T)).sum().item()
    return found


def _prepared(rectangle: Rectangle) -> list[Tensor]:
    return [F.normalize(x, dim=1) if rectangle.normalize else x for x in rectangle[:2]]
