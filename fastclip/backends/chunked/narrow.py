"""The arithmetic of 16-bit features on a GPU: 16-bit factors, float32 products and sums.

Math, with s = logit_scale, sigma its sign, f the factor of an operand, w of G:
    operands    normalised: f = 2^8, float16(sigma f unit row), float16(f unit column)
                otherwise:  f = 1, sigma row and column as they are, in their own dtype
    products    acc = row . col;   logit = |s| f^-2 acc
    sums        2^14 exp(logit - shift) in float16, summed in float32
    G           w G = sign(g_i) exp(logit - shift_i + log|w g_i|) and the same of columns, each in
                float16; added in the operands' dtype. w is the power of two that brings the
                largest weight into [2^12, 2^13)
Passes over a block, read and written bytes of a logit: forward 44, backward 46, of which the three
products are 8; of the sigmoid 24 and 32.
Numerics
    Features that are not normalised are exact, whatever their range; unit rows need no range, and
    float16 has three bits more than bfloat16. 2^8 keeps small elements normal. Everything that
    meets a difference of logits is float32. Exponentials are rounded to 2^-12 of themselves, once
    for a sum and twice for G, of bfloat16 operands the second time to 2^-9; they are lost below
    2^-39 of the largest. Eager code under autocast rounds logits to 2^-9 first.
    |s| is at least 2^-100, that a pair's -inf stays one; a bound of the float32 exponents limits
    w to 2^100. With the sign in the rows, the largest product is that of the largest logit.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.backends.gpu.operand import UNIT_FACTOR
from fastclip.backends.gpu.products import accumulate
from fastclip.backends.normalization import prepared_rows
from fastclip.rectangle import Rectangle

LARGEST = 2.0**14  # exponential, as float16
LOG_LARGEST = 9.704060527839234
WEIGHT_EXPONENT = 13
SMALLEST_SCALE = 2.0**-100
SOFTPLUS_IS_LINEAR = 40.0  # e^-40 is below the rounding of a double


class Narrow:
    """The arithmetic of one call; in a backward, `largest` () bounds the weights of G.

    It has the interface of `Wide`. All values that it needs from the data stay on the device.
    """

    def __init__(self, rectangle: Rectangle, largest: Tensor | None = None) -> None:
        scale, self.normalize = rectangle.logit_scale, rectangle.normalize
        self.dtype = torch.float16 if self.normalize else rectangle.rows.dtype
        factor = UNIT_FACTOR if self.normalize else 1.0
        self.sign = torch.ones_like(scale).copysign(scale)
        self.unit = scale.abs().clamp_min(SMALLEST_SCALE) / factor**2
        self.weight = _weight(torch.ones_like(scale) if largest is None else largest)
        self.row_factor = scale / factor / self.weight
        self.col_factor = scale.abs() / factor / self.weight
        self.scale_factor = self.sign / factor**2 / self.weight

    def rows(self, features: Tensor) -> Tensor:
        if self.normalize:
            return _unit_rows(features, UNIT_FACTOR * self.sign)
        return features * self.sign.to(features.dtype)

    def cols(self, features: Tensor) -> Tensor:
        return _unit_rows(features, UNIT_FACTOR) if self.normalize else features.contiguous()

    def products(self, rows: Tensor, cols: Tensor) -> Tensor:
        return self.accumulate(None, rows, cols.T)

    def logits(self, products: Tensor) -> Tensor:
        return self.unit * products

    def sum_exp(self, products: Tensor, shift: Tensor, dim: int, last: bool) -> Tensor:
        values = self._exp(products, (LOG_LARGEST - shift).unsqueeze(dim), last)
        return values.sum(dim, dtype=torch.float32) / LARGEST

    def softmax_gradient(
        self,
        products: Tensor,
        of_rows: tuple[Tensor, Tensor] | None,
        of_cols: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        if of_rows is None and of_cols is None:
            return torch.zeros_like(products, dtype=self.dtype)
        both = of_rows is not None and of_cols is not None
        first = of_cols if of_rows is None else of_rows
        values, sign = self._weighted_exp(products, *first, last=not both)
        if not both:
            return torch.mul(values, sign, out=self._block(products))
        values.mul_(sign)
        others, sign = self._weighted_exp(products, *of_cols, last=True)
        return torch.addcmul(values, others, sign, out=self._block(products))

    def _block(self, products: Tensor) -> Tensor:
        return torch.empty_like(products, dtype=self.dtype)

    def _weighted_exp(
        self, products: Tensor, shift: Tensor, weight: Tensor, last: bool
    ) -> tuple[Tensor, Tensor]:
        """Return |w g| exp(logit - shift), float16, and the sign of g."""
        weight = self.weight * weight
        offset = weight.abs().log() - shift
        return self._exp(products, offset, last), weight.sign().half()

    def biased(self, products: Tensor, bias: Tensor) -> Tensor:
        return torch.addcmul(bias, products, self.unit, out=products)

    def softplus(self, logits: Tensor) -> Tensor:
        return F.softplus(logits, threshold=SOFTPLUS_IS_LINEAR).sum(1)

    def sigmoid_gradient(self, logits: Tensor, weight: Tensor) -> Tensor:
        return torch.mul(logits.sigmoid_(), self.weight * weight, out=self._block(logits))

    def weighted(self, grad: Tensor) -> Tensor:
        return self.weight * grad

    def factor(self, grad: Tensor) -> Tensor:
        return grad

    def lost(self, exact: Tensor, grad: Tensor) -> Tensor | None:
        return exact - grad

    def sum(self, grad: Tensor, lost: Tensor | None) -> Tensor:
        total = grad.sum(1, dtype=torch.float32).sum(dtype=torch.float64)
        return (total + lost.sum()) / self.weight

    def accumulate(self, out: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
        first = out is None
        if first:
            out = a.new_empty((a.shape[0], b.shape[1]), dtype=torch.float32)
        accumulate(out, a[None], b[None], first)
        return out

    def _exp(self, products: Tensor, offset: Tensor, last: bool) -> Tensor:
        """Return exp(logit + offset), float16; overwrite the products at their `last` use."""
        exponent = torch.addcmul(offset, products, self.unit, out=products if last else None)
        return torch.exp(exponent, out=torch.empty_like(products, dtype=torch.float16))


def _unit_rows(features: Tensor, factor: float | Tensor) -> Tensor:
    return (factor * prepared_rows(features, normalize=True)).to(torch.float16)


def _weight(largest: Tensor) -> Tensor:
    """Return a power of two with largest * weight in [2^12, 2^13), for largest from 2^-88 on."""
    _, exponent = torch.frexp(largest)
    return torch.ldexp(torch.ones_like(largest), (WEIGHT_EXPONENT - exponent).clamp(-126, 100))
