"""Compare two sets of kernels, kernel by kernel, on the same inputs.

`correctness.py` compares whole sets with float64. This comparison says which kernel differs: every
kernel gets the outputs of the first set's kernels, so that no difference is passed on. The
tolerances are for float32 logits of length `logit_scale`, summed in another order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fastclip.backends.gpu.logit_matrix import GradientVectors, LogitMatrix, Region
from fastclip.backends.gpu.operand import ROW_MULTIPLE, Operand, extent, padded
from fastclip.backends.gpu.partials import negative_maxima, negative_sums
from fastclip.backends.gpu.precision import kept_logits, planes_for
from fastclip.backends.gpu.products import LOW_SCALE
from fastclip.backends.gpu.scalars import BIAS, GRAD_ROW, STEP, LargestGradients
from fastclip.benchmarks.cases import Case, make_inputs
from fastclip.benchmarks.gpu.kernels import Kernels

LOGIT = 2.0**-16  # error of a logit over logit_scale: 48 steps of a tensor core, an ulp each
OFFSET = 7  # row i is paired with column i + OFFSET
LOG2_E = 1.4427
LEAST_SUM = 2.0**-90  # kernels compute sums below 2^-80 again


def agreement(first: Kernels, other: Kernels, case: Case) -> dict:
    """Return how far apart the sets are; raise AssertionError if it is more than rounding."""
    with torch.no_grad():
        with first.chosen():
            expected = _Run(first.module(), case).outputs()
        with other.chosen():
            actual = _Run(other.module(), case, expected.made).outputs()
    return {"errors": dict(_distances(expected, actual))}


@dataclass
class Outputs:
    """The outputs of kernels by name: as the next kernels need them, and as they are compared."""

    made: dict[str, Any] = field(default_factory=dict)
    compared: dict[str, tuple[Tensor, float, float]] = field(default_factory=dict)

    def add(
        self, name: str, value: Tensor, absolute: float, relative: float, made: Any = None
    ) -> None:
        self.compared[name] = value, absolute, relative
        self.made[name] = value if made is None else made


def _distances(expected: Outputs, actual: Outputs) -> Iterator[tuple[str, float]]:
    for name, (true, absolute, relative) in expected.compared.items():
        true, value = true.double(), actual.compared[name][0].double()
        far = ~torch.isclose(value, true, relative, absolute)
        if far.any():
            worst = (value - true)[far].abs().max().item()
            raise AssertionError(
                f"{name}: {far.sum()} of {far.numel()} differ, by up to {worst:.2e}"
            )
        finite = true.isfinite()
        yield name, ((value - true)[finite].norm() / true[finite].norm().clamp(min=1e-30)).item()


class _Run:
    """Runs every kernel of a set once, on the outputs `given`, or on its own set's outputs."""

    def __init__(
        self, kernels: ModuleType, case: Case, given: dict[str, Any] | None = None
    ) -> None:
        self.kernels, self.case = kernels, case
        image, self.cols, self.scale = make_inputs(case)  # (N, D), (N, D), ()
        self.rows = image[OFFSET:]  # (M, D)
        self.matrix = LogitMatrix(len(self.rows), len(self.cols), OFFSET)
        self.planes = planes_for(case.dtype)
        self.row_extent = extent(self.rows, case.normalize)
        self.col_extent = extent(self.cols, case.normalize)
        self.generator = torch.Generator(case.device).manual_seed(0)
        M, N = self.matrix.M, self.matrix.N
        self.grad_total, self.grad_positive = self.random(M + N), self.random(M)
        self.found = Outputs()
        self.of = self.found.made if given is None else given
        self.logit = LOGIT * max(1.0, case.logit_scale)
        self.digits = 2.0**-10 if self.planes == 1 else 2.0**-19  # of operands and of G
        # The block of G begins at any row, and at the first column of a tile.
        self.first_row = self.matrix.M // 3
        self.first_col = ROW_MULTIPLE if self.matrix.N > ROW_MULTIPLE else 0

    def outputs(self) -> Outputs:
        self.operands()
        self.sums()
        self.log_sums()
        self.blocks()
        self.sigmoid()
        self.features()
        return self.found

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.case.device)

    def operands(self) -> None:
        part = self.rows[self.first_row :]
        for name, features, its_extent in (
            ("rows", self.rows, self.row_extent),
            ("columns", self.cols, self.col_extent),
            ("rows of the block", part, self.row_extent),
        ):
            operand = self.kernels.prepare(features, its_extent, self.planes)
            value = operand.values.float().sum(0)
            self.found.add(name, value, 1e-6, self.digits, operand)
            self.found.add(f"norms of {name}", operand.norms, 0.0, 1e-6)
        longest = max(self.matrix.M, self.matrix.N)
        total, positive = self.grad_total.abs().amax(), self.grad_positive.abs().amax()
        bias = torch.full_like(self.scale, -self.case.logit_scale)
        for name, its_bias, largest in (
            ("scalars", None, LargestGradients(total, positive)),
            ("scalars with a bias", bias, LargestGradients(None, positive)),
        ):
            scalars = self.kernels.scalars(
                self.scale, its_bias, self.row_extent, self.col_extent, longest, largest
            )
            value = scalars.clone()
            if its_bias is None:
                value[BIAS] = 0.0  # not written
            self.found.add(name, value, 0.0, 1e-5, scalars)

    def sides(self) -> tuple[Operand, Operand, Tensor]:
        return self.of["rows"], self.of["columns"], self.of["scalars"]

    def sums(self) -> None:
        of_sums = LEAST_SUM, 4 * self.logit
        positive = self.kernels.positives(*self.sides(), self.matrix)
        self.found.add("positives", positive, self.logit, 0.0)
        kept = kept_logits(self.rows, self.matrix.M, self.matrix.N)
        partials = negative_sums(self.kernels, *self.sides(), self.matrix, kept)
        self.found.add("sums of rows", partials.rows.sum(0), *of_sums, partials.rows)
        self.found.add("sums of columns", partials.cols.sum(0), *of_sums, partials.cols)
        step = 1.0 if kept.dtype == torch.float32 else self.of["scalars"][STEP].item()
        of_kept = (0.0 if kept.dtype == torch.float32 else step) + LOG2_E * self.logit
        self.found.add("kept logits", kept[:, : self.matrix.N].float() * step, of_kept, 0.0, kept)
        again = self.of["positives"].clone()
        maxima = negative_maxima(self.kernels, *self.sides(), self.matrix, again)
        self.found.add("maxima of rows", maxima.rows.amax(0), LOG2_E * self.logit, 0.0)
        self.found.add("maxima of columns", maxima.cols.amax(0), LOG2_E * self.logit, 0.0)
        self.found.add("positives with maxima", again, self.logit, 0.0)

    def log_sums(self) -> None:
        rows, cols, scalars = self.sides()
        for side, operands, matrix in (
            ("rows", (rows, cols), self.matrix),
            ("columns", (cols, rows), self.matrix.transposed()),
        ):
            for name, maximum in (
                (f"lse of {side}", None),
                (f"lse of {side} from maxima", self.of[f"maxima of {side}"]),
            ):
                shift, total = (scalars.new_empty((matrix.M,)) for _ in range(2))
                partials = self.of[f"sums of {side}"]
                self.kernels.finalise(*operands, scalars, matrix, partials, maximum, shift, total)
                self.found.add(name, shift + total.log(), 4 * self.logit, 1e-6, shift)

    def blocks(self) -> None:
        _, cols, scalars = self.sides()
        shift = torch.cat([self.of["lse of rows"], self.of["lse of columns"]])  # (M + N,)
        vectors = GradientVectors(shift, self.grad_total, self.grad_positive)
        block, part = self.new_block(), self.of["rows of the block"]
        region = self.region_of(block)
        self.kernels.recomputed(region, part, cols, scalars, block, vectors)
        self.add_block("G", block)
        block, kept = self.new_block(), self.of["kept logits"]
        self.kernels.from_kept(region, kept, scalars, block, vectors)
        self.add_block("G from kept logits", block)

    def new_block(self) -> Tensor:
        num_rows = self.of["rows of the block"].plane_rows
        shape = self.planes, num_rows, padded(self.matrix.N - self.first_col, ROW_MULTIPLE)
        return torch.full(shape, float("nan"), dtype=torch.float16, device=self.case.device)

    def region_of(self, block: Tensor) -> Region:
        return Region(self.matrix, self.first_row, self.first_col, *block.shape[1:])

    def add_block(self, name: str, block: Tensor) -> None:
        """block: (planes, m, n) float16"""
        value = block[0].float()
        if self.planes == 2:
            value += block[1].float() / LOW_SCALE
        of_largest = 2e-6 * value.abs().max().item()
        self.found.add(name, value, of_largest, self.digits + 4 * self.logit)

    def sigmoid(self) -> None:
        block, part = self.new_block(), self.of["rows of the block"]
        cols, scalars = self.of["columns"], self.of["scalars with a bias"]
        losses, of_bias = self.kernels.sigmoid_tiles(
            self.region_of(block), part, cols, scalars, block, self.grad_positive, True
        )
        self.add_block("G of sigmoid", block)
        self.found.add("losses of sigmoid", losses.sum(0), 1e-7 * self.matrix.N, 4 * self.logit)
        self.add_sums("gradient of logit_bias", of_bias.sum(0), 4 * self.logit)

    def features(self) -> None:
        operand = self.of["rows"]
        product = self.random(operand.plane_rows, operand.padded_dim)
        grad = torch.full_like(self.rows, float("nan"))
        of_scale = self.kernels.feature_gradient(
            product, self.rows, operand, self.of["scalars"], GRAD_ROW, grad
        )
        self.add_sums("gradient of features", grad, 2 * torch.finfo(grad.dtype).eps)
        self.add_sums("gradient of logit_scale", of_scale, 1e-5)

    def add_sums(self, name: str, value: Tensor, relative: float) -> None:
        """Add sums whose terms cancel."""
        of_largest = 1e-5 * value.float().abs().max().item()
        self.found.add(name, value, of_largest, relative + 1e-5)
