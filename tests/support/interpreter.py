"""Triton's interpreter: fewer programs, and a matrix product that is the same on every machine.

The interpreter multiplies float32 with the BLAS of the machine, whose order of summation depends on
the CPU: a budget that holds on one fails on another. Here `tl.dot` is summed in float64 and rounded
to float32 once; its terms are products of two float16, which float64 holds exactly, so that another
order of summation changes an entry of the result only within 2^-29 of a tie between two float32.

Or, as tensor cores are known to, the sum is rounded toward zero after every 16 terms.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

TERMS_OF_A_STEP = 16


def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's time goes into programs, not into rows: 64 rows in each instead of 8."""
    from fastclip.backends.triton import feature_gradients, operands, positives

    for module in (feature_gradients, operands, positives):
        monkeypatch.setattr(module, "ROWS_OF_PROGRAM", 64)


def sum_products_in_float64() -> None:
    """From here on, in this process."""
    _use(_rounded_once)


@contextmanager
def products_rounded_toward_zero() -> Iterator[None]:
    """Within the context, sums lose what float32 does not hold, 16 terms at a time."""
    _use(_rounded_toward_zero)
    try:
        yield
    finally:
        _use(_rounded_once)


def _use(product: Callable[..., np.ndarray]) -> None:
    from triton.runtime import interpreter

    def create_dot(self, a, b, d, input_precision, max_num_imprecise_acc):
        assert a.data.dtype == b.data.dtype == np.float16 and d.data.dtype == np.float32
        return interpreter.TensorHandle(product(a.data, b.data, d.data), d.dtype.scalar)

    interpreter.InterpreterBuilder.create_dot = create_dot


def _rounded_once(a, b, d):  # (m, k) @ (k, n) + (m, n)
    return (a.astype(np.float64) @ b.astype(np.float64) + d).astype(np.float32)


def _rounded_toward_zero(a, b, d):
    a, b = a.astype(np.float64), b.astype(np.float64)
    for k in range(0, a.shape[1], TERMS_OF_A_STEP):
        terms = slice(k, k + TERMS_OF_A_STEP)
        exact = a[:, terms] @ b[terms] + d
        d = exact.astype(np.float32)
        too_large = np.abs(d) > np.abs(exact)
        d[too_large] = np.nextafter(d[too_large], np.float32(0))
    return d
