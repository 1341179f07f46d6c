"""The rule for ties: what is as near as the right answer counts against the model.

Collapsed features, for which everything ties, then score 0; with ties in the model's favour, or
broken by the order of rows, they would score up to 1. Nan, which a model that has diverged gives,
is no right answer, and what is nan beside one counts against it.

Products are summed in float64 and compared in float32. A matrix product sums its last rows and
columns in another order than the others, so that in float32 alone equal rows need not tie.
"""

from torch import Tensor


def similarity(queries: Tensor, gallery: Tensor) -> Tensor:
    """Return (M, N) float32 products of (M, D) and (N, D) rows; equal rows have equal ones.

    A gallery that is compared with many blocks of queries is best given in float64.
    """
    return (queries.double() @ gallery.double().T).float()


def counts_against(near: Tensor, right: Tensor) -> Tensor:
    """Return (M, N) bool: what of (M, N) similarities is not below (M,) right ones.

    The right answer itself is among what is returned as true, wherever it stands in its row.
    """
    return ~(near < right[:, None])
