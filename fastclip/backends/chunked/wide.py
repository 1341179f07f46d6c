"""The arithmetic in float32 and float64, on any device; 16-bit features become float32.

`narrow.py` has the same interface. Here a product is a logit, and G has no factor.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.backends.normalization import prepared_rows
from fastclip.rectangle import Rectangle

# Entries of G below this fraction of its largest weight do not reach a float32 sum of any length
# met in practice, and on a CPU subnormal factors make a product up to 70 times slower.
NEGLIGIBLE = 2.0**-100


class Wide:
    """The arithmetic of one call; in a backward, `largest` () bounds the weights of G."""

    def __init__(self, rectangle: Rectangle, largest: Tensor | None = None) -> None:
        self.normalize, self.largest = rectangle.normalize, largest
        self.logit_scale = rectangle.logit_scale
        # Sums of products times these factors are the gradients of rows, columns and logit_scale.
        self.row_factor = self.col_factor = rectangle.logit_scale
        self.scale_factor = 1.0

    def rows(self, features: Tensor) -> Tensor:  # (m, D) -> (m, D)
        return prepared_rows(features, self.normalize)

    def cols(self, features: Tensor) -> Tensor:  # (N, D) -> (N, D)
        return prepared_rows(features, self.normalize)

    def products(self, rows: Tensor, cols: Tensor) -> Tensor:  # (m, D), (n, D) -> (m, n)
        return self.logit_scale * (rows @ cols.T)

    def logits(self, products: Tensor) -> Tensor:
        """Turn products, or their maxima, into logits."""
        return products

    def sum_exp(self, products: Tensor, shift: Tensor, dim: int, last: bool) -> Tensor:
        """Return sum exp(logit - shift) over `dim`; overwrite the products at their `last` use."""
        shift = shift.unsqueeze(dim)
        shifted = products.sub_(shift) if last else products - shift
        return shifted.exp_().sum(dim)

    def softmax_gradient(
        self,
        products: Tensor,  # (m, n), overwritten
        of_rows: tuple[Tensor, Tensor] | None,  # (m, 1): shift, gradient of the sum
        of_cols: tuple[Tensor, Tensor] | None,  # (n,) likewise
    ) -> Tensor:
        if of_rows is not None:
            shift, weight = of_rows
            grad = (products - shift).exp_().mul_(weight)
        else:
            grad = torch.zeros_like(products)
        if of_cols is not None:
            shift, weight = of_cols
            grad += products.sub_(shift).exp_().mul_(weight)
        return grad

    def biased(self, products: Tensor, bias: Tensor) -> Tensor:
        """Return the logits of a sigmoid; overwrite the products."""
        return products.add_(bias)

    def softplus(self, logits: Tensor) -> Tensor:  # (m, n), overwritten -> (m,)
        return -F.logsigmoid(logits.neg_()).sum(1)

    def sigmoid_gradient(self, logits: Tensor, weight: Tensor) -> Tensor:  # (m, n), (m, 1)
        return _without_negligible(logits.sigmoid_(), None).mul_(weight)

    def weighted(self, grad: Tensor) -> Tensor:
        """Return a gradient in the units of G."""
        return grad

    def factor(self, grad: Tensor) -> Tensor:
        """Return G as it is multiplied."""
        return _without_negligible(grad, self.largest)

    def lost(self, exact: Tensor, grad: Tensor) -> Tensor | None:
        """Return what rounding took from entries of G, in float32; None if nothing."""
        return None

    def sum(self, grad: Tensor, lost: Tensor | None) -> Tensor:
        """Return sum G, corrected by what rounding took, () float64."""
        return grad.sum(dtype=torch.float64)

    def accumulate(self, out: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
        """Return out + a b, added in place, or a b if `out` is None."""
        return a @ b if out is None else out.addmm_(a, b)


def _without_negligible(values: Tensor, largest: Tensor | None) -> Tensor:
    """On a CPU, set values below NEGLIGIBLE times `largest` (or 1) to zero."""
    if values.device.type != "cpu":
        return values
    return F.hardshrink(values, NEGLIGIBLE * (1.0 if largest is None else largest.item()))
