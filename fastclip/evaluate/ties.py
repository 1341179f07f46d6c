"""The rule for ties: a wrong answer that is as near as the right one counts against the model.

Under this rule collapsed features, for which everything ties, score 0; if ties counted for the
model, or the order of rows decided, such features would score up to 1. A similarity of nan, which a
diverged model gives, never counts as right: if either the right answer or a wrong one is nan, the
wrong one counts against the model.

Products are summed in float64 and compared in float32. A matrix product sums its last rows and
columns in another order than the others, so that in float32 alone equal rows need not tie.
"""

from torch import Tensor


def similarity(queries: Tensor, gallery: Tensor) -> Tensor:
    """Return (M, N) float32 products of (M, D) and (N, D) rows; equal rows have equal products.

    Convert a gallery that is compared with many blocks of queries to float64 beforehand.
    """
    return (queries.double() @ gallery.double().T).float()


def counts_against(near: Tensor, right: Tensor) -> Tensor:
    """Return (M, N) bool: whether a similarity is not below the right one of its row, of (M,).

    The entry of the right answer itself is always true.
    """
    return ~(near < right[:, None])
