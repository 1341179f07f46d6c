"""Two sets of kernels side by side: each kernel of both is given the same, and makes the same.

The whole is checked against float64 elsewhere (`correctness.py`). Here it is told which kernel
differs: what one is given is what the first set's kernels made before it, so that no difference is
passed on. Tolerances are those of float32 logits of length `logit_scale`, summed in another order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fastclip.backends.gpu.operand import ROW_MULTIPLE, extent, padded
from fastclip.backends.gpu.precision import kept_logits, planes_for
from fastclip.backends.gpu.products import LOW_SCALE
from fastclip.backends.gpu.region import Region
from fastclip.backends.gpu.scalars import GRAD_ROW, STEP, LargestGradients
from fastclip.benchmarks.cases import Case, make_inputs
from fastclip.benchmarks.gpu.kernels import Kernels

LOGIT = 2.0**-16  # error of a logit over logit_scale: 48 steps of a tensor core, an ulp each
OFFSET = 7  # row i is paired with column i + OFFSET
LOG2_E = 1.4427


@dataclass
class Outputs:
    """What kernels make, by name: as the next kernels want it, and as it is compared."""

    made: dict[str, Any] = field(default_factory=dict)
    compared: dict[str, tuple[Tensor, float, float]] = field(default_factory=dict)

    def add(self, name: str, made: Any, compared: Tensor, absolute: float, relative: float) -> None:
        self.made[name] = made
        self.compared[name] = compared, absolute, relative


def agreement(first: Kernels, other: Kernels, case: Case) -> dict:
    """Returns how far apart they are; raises AssertionError beyond rounding."""
    with torch.no_grad():
        with first.chosen():
            expected = outputs(first.module(), case, None)
        with other.chosen():
            actual = outputs(other.module(), case, expected.made)
    return {"errors": dict(_distances(expected, actual))}


def _distances(expected: Outputs, actual: Outputs) -> Iterator[tuple[str, float]]:
    for name, (true, absolute, relative) in expected.compared.items():
        true, value = true.double(), actual.compared[name][0].double()
        if not torch.allclose(value, true, relative, absolute, equal_nan=False):
            far = ~torch.isclose(value, true, relative, absolute, equal_nan=False)
            worst = (value - true)[far].abs().max().item()
            raise AssertionError(
                f"{name}: {far.sum()} of {far.numel()} differ, by up to {worst:.2e}"
            )
        finite = true.isfinite()
        yield name, ((value - true)[finite].norm() / true[finite].norm().clamp(min=1e-30)).item()


def outputs(kernels: ModuleType, case: Case, given: dict[str, Any] | None) -> Outputs:
    """Of every kernel on the outputs `given`, or on its own set's."""
    image, cols, scale = make_inputs(case)
    rows = image[OFFSET:]
    M, N = len(rows), len(cols)
    planes = planes_for(case.dtype)
    row_extent, col_extent = extent(rows, case.normalize), extent(cols, case.normalize)
    generator = torch.Generator(case.device).manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=case.device)

    found = Outputs()
    of = found.made if given is None else given
    logit = LOGIT * max(1.0, case.logit_scale)
    of_sums = 2.0**-90, 4 * logit  # sums below 2^-80 are computed again
    exact = 2.0**-10 if planes == 1 else 2.0**-19  # of operands and of G

    # Both primitives: operands and scalars.
    for name, features, its_extent in (("rows", rows, row_extent), ("cols", cols, col_extent)):
        operand = kernels.prepare(features, its_extent, planes)
        found.add(name, operand, operand.values.float().sum(0), 1e-6, exact)
        found.add(f"norms of {name}", None, operand.norms, 0.0, 1e-6)
    grad_total, grad_positive = random(M + N), random(M)
    largest = LargestGradients(grad_total.abs().amax(), grad_positive.abs().amax())
    extents = row_extent, col_extent, max(M, N)
    scalars = kernels.scalars(scale, None, *extents, largest)
    # The bias is that of no call.
    told = torch.cat([scalars[:2], scalars[3:]])
    found.add("scalars", scalars, told, 0.0, 1e-5)
    operands = of["rows"], of["cols"], of["scalars"]

    # Softmax, forward.
    positive = kernels.positives(*operands, OFFSET)
    found.add("positives", positive, positive, logit, 0.0)
    kept = kept_logits(rows, M, N)
    partials = kernels.negative_sums(*operands, OFFSET, kept)
    found.add("sums of rows", partials.rows, partials.rows.sum(0), *of_sums)
    found.add("sums of columns", partials.cols, partials.cols.sum(0), *of_sums)
    step = 1.0 if kept.dtype == torch.float32 else of["scalars"][STEP].item()
    found.add("kept logits", kept, kept[:, :N].float() * step, step + LOG2_E * logit, 0.0)
    again = of["positives"].clone()
    maxima = kernels.negative_maxima(*operands, OFFSET, again)
    found.add("maxima of rows", maxima.rows.amax(0), maxima.rows.amax(0), LOG2_E * logit, 0.0)
    found.add("maxima of columns", maxima.cols.amax(0), maxima.cols.amax(0), LOG2_E * logit, 0.0)
    found.add("positives beside maxima", None, again, logit, 0.0)
    swapped = of["cols"], of["rows"], of["scalars"]
    for side, its, offset in (("rows", operands, OFFSET), ("columns", swapped, -OFFSET)):
        for maximum in (None, of[f"maxima of {side}"]):
            shift, total = (its[2].new_empty((its[0].num_rows,)) for _ in range(2))
            kernels.finalise(*its, offset, of[f"sums of {side}"], maximum, shift, total)
            name = f"lse of {side}" if maximum is None else f"lse of {side} from maxima"
            found.add(name, shift, shift + total.log(), 4 * logit, 1e-6)

    # Blocks of weight G, whose first row is any.
    first_row, first_col = M // 3, ROW_MULTIPLE if N > ROW_MULTIPLE else 0
    part = kernels.prepare(rows[first_row:], row_extent, planes)
    found.add("rows of a block", part, part.values.float().sum(0), 1e-6, exact)
    part = of["rows of a block"]
    num_cols = padded(N - first_col, ROW_MULTIPLE)
    shift = torch.cat([of["lse of rows"], of["lse of columns"]])
    vectors = shift, grad_total, grad_positive

    def block() -> Tensor:
        shape = planes, part.plane_rows, num_cols
        return torch.full(shape, float("nan"), dtype=torch.float16, device=case.device)

    def add_block(name: str, written: Tensor) -> None:
        high = written[0].float()
        value = high if planes == 1 else high + written[1].float() / LOW_SCALE
        relative = exact + 4 * logit
        found.add(name, None, value, 2e-6 * value.abs().max().item(), relative)

    written = block()
    kernels.recomputed(
        written, part, *operands[1:], first_row, first_col, M, OFFSET, *vectors
    )  # fmt: skip
    add_block("G", written)
    written = block()
    kernels.from_kept(
        written, of["kept logits"], of["scalars"], first_row, first_col, M, N, OFFSET, *vectors
    )
    add_block("G from kept logits", written)

    # Sigmoid.
    bias = torch.full_like(scale, -case.logit_scale)
    values = kernels.scalars(scale, bias, *extents, LargestGradients(None, largest.positive))
    found.add("scalars with a bias", values, values, 0.0, 1e-5)
    region = Region(first_row, first_col, part.plane_rows, num_cols, M, N, OFFSET)
    written = block()
    losses, of_bias = kernels.sigmoid_tiles(
        region, part, of["cols"], of["scalars with a bias"], written, grad_positive, True
    )
    add_block("G of sigmoid", written)
    found.add("losses of sigmoid", None, losses.sum(0), N * 1e-7, 4 * logit)
    of_bias = of_bias.sum(0)
    found.add("gradient of the bias", None, of_bias, 1e-5 * of_bias.abs().max().item(), 4 * logit)

    # The gradient of features from the product of G.
    product = random(of["rows"].plane_rows, of["rows"].padded_dim)
    grad = torch.full_like(rows, float("nan"))
    of_scale = kernels.feature_gradient(
        product, rows, of["rows"], of["scalars"], GRAD_ROW, grad
    )  # fmt: skip
    ulp = 2 * torch.finfo(case.dtype).eps
    of_largest = 1e-5 * grad.float().abs().max().item()
    found.add("gradient of features", None, grad, of_largest, ulp + 1e-5)
    of_largest = 1e-5 * of_scale.abs().max().item()
    found.add("gradient of logit_scale", None, of_scale, of_largest, 1e-5)
    return found
