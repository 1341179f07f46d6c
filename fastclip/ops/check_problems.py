"""The small batches of the self-check, and the same batches rounded as kernels round them.

    plain   random rows with norms from 1/2 to 2, to be normalised, at a scale of 1, where float32
            is exact to a few ulps: one column too many or too few is wrong by a thousand budgets
    hard    unit rows that are not normalised, at a scale of 100 or, for the sigmoid, 20: along and
            opposite to a hub, so that no common shift serves all; ties; hard negatives on both
            sides of every edge of a tile
    masked  random unit rows at a scale of 10, each of which leaves out an interval of columns: for
            some rows a single column at an edge of a tile, for some no column

All are ragged rectangles in which some rows have no pair. All batches test the code that computes
logits, sums and their gradients; one tests code that normalises features, and two test code that
prepares features as they are. The numbers are the same on every device.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.backends.gpu.operand import UNIT_FACTOR
from fastclip.backends.gpu.precision import planes_for
from fastclip.rectangle import Diagonal, Interval, Rectangle

STEP = 16  # products that a tensor core adds up at a time
LOST_ULPS = 1.5  # ulps of float32 that a step may lose: it truncates the addends and their sum
EDGES = (63, 64, 127, 128, 255, 256)


class Problem(NamedTuple):
    """One call of a primitive, and the weights of its outputs for the backward."""

    name: str
    rectangle: Rectangle
    logit_bias: Tensor  # ()
    weights: Tensor  # (M + N,)

    def exact(self) -> "Problem":
        """Return the same problem in float64."""
        rows, cols, scale = (x.double() for x in self.rectangle[:3])
        rectangle = self.rectangle._replace(rows=rows, cols=cols, logit_scale=scale)
        return self._replace(rectangle=rectangle, logit_bias=self.logit_bias.double())

    def of_units(self) -> "Problem":
        """Return the problem in float64 with rows normalised before the call.

        Then gradients are not projected.
        """
        if not self.rectangle.normalize:
            return self.exact()
        rows, cols = (F.normalize(x.double(), dim=1) for x in self.rectangle[:2])
        return self.exact()._with(rows=rows, cols=cols, normalize=False)

    def rounded(self) -> "Problem":
        """Return `of_units` with the rounded operands of kernels, and about their logits."""
        rows, cols, scale = self.of_units().rectangle[:3]
        planes = planes_for(self.rectangle.rows.dtype)
        factors = [
            UNIT_FACTOR if self.rectangle.normalize else _power_of_two(x) for x in (rows, cols)
        ]
        rows, cols = (_as_operand(x, f, planes) for x, f in zip((rows, cols), factors, strict=True))
        scale = scale * (1.0 - lost_by(rows.shape[1]))
        return self.of_units()._with(rows=rows, cols=cols, logit_scale=scale)

    def _with(self, **changes: Any) -> "Problem":
        return self._replace(rectangle=self.rectangle._replace(**changes))


def problems(primitive: str, device: torch.device, dtype: torch.dtype, D: int) -> Iterator[Problem]:
    generator = torch.Generator("cpu").manual_seed(0)
    of_draws = {"dtype": torch.float64, "device": "cpu"}  # so numbers are the same on every device

    def unit(num_rows: int) -> Tensor:
        drawn = torch.randn(num_rows, D, generator=generator, **of_draws)
        return F.normalize(drawn, dim=1)

    def problem(
        name: str, rows: Tensor, cols: Tensor, offset: int, scale: float, normalize: bool
    ) -> Problem:
        sizes = torch.rand(len(rows) + len(cols), 2, generator=generator, **of_draws)
        if normalize:
            norms = torch.exp2(2.0 * sizes[:, 1:] - 1.0)
            rows, cols = rows * norms[: len(rows)], cols * norms[len(rows) :]
        of_features = {"dtype": dtype, "device": device}
        of_scalars = {"dtype": torch.float32, "device": device}
        rectangle = Rectangle(
            rows.to(**of_features), cols.to(**of_features), torch.tensor(scale, **of_scalars),
            Diagonal(offset), normalize=normalize,
        )  # fmt: skip
        bias = torch.tensor(-1.0, **of_scalars)
        return Problem(name, rectangle, bias, sizes[:, 0].add(0.5).to(**of_scalars))

    yield problem("plain", unit(139), unit(262), offset=-11, scale=1.0, normalize=True)
    hub, rows, cols = unit(1), unit(270), unit(139)
    rows = F.normalize(rows + 3.0 * hub, dim=1)
    rows[1::2] *= -1.0
    cols = F.normalize(cols + 2.0 * hub, dim=1)
    for edge in EDGES:
        if edge < len(cols):
            cols[edge] = F.normalize(cols[edge] + rows[edge + 1], dim=0)
    rows[9], cols[5] = rows[3], cols[3]
    scale = 100.0 if primitive == "contrastive_lse" else 20.0
    yield problem("hard", rows, cols, offset=4, scale=scale, normalize=False)
    masked = problem("masked", unit(70), unit(262), offset=3, scale=10.0, normalize=False)
    row = torch.arange(70, dtype=torch.int32)
    begin = torch.where(row % 3 == 0, row - 5, 7 * row % 262)
    end = begin + 9 * (row % 4)
    for i, edge in enumerate(EDGES):
        begin[10 + i], end[10 + i] = edge, edge + 1
    excluded = Interval(*(x.contiguous().to(device) for x in (begin, end)))
    yield masked._with(excluded=excluded)


def _as_operand(features: Tensor, factor: float, planes: int) -> Tensor:
    """Round features as `backends/gpu/operand.py` says."""
    operand = factor * features
    rounded = operand.half().double()
    if planes == 2:
        rounded += (operand - rounded).half().double()
    return rounded / factor


def _power_of_two(features: Tensor) -> float:
    return 2.0 ** (8 - math.frexp(features.abs().max().item())[1])


def lost_by(num_terms: int) -> float:
    """Return the fraction of a sum of products that rounding toward zero may lose."""
    return LOST_ULPS * 2.0**-23 * num_terms / STEP
