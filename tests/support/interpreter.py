"""Triton's interpreter: fewer programs, less patching, and the same matrix product on all machines.

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


def patch_the_language_once_per_launch() -> None:
    """From here on, in this process.

    The interpreter replaces the functions of Triton's language in a launch, and looks through all
    of them again whenever a kernel calls a function of its own: a quarter of its time, to find them
    replaced. Functions of one module see the same language.
    """
    from triton.runtime import interpreter

    patch, run, patched = interpreter._patch_lang, interpreter.GridExecutor.__call__, set()

    def patch_once(fn):
        if fn.__module__ in patched:
            return interpreter._LangPatchScope()  # nothing to restore
        patched.add(fn.__module__)
        return patch(fn)

    def run_and_forget(self, *args, **kwargs):
        patched.clear()
        return run(self, *args, **kwargs)

    interpreter._patch_lang = patch_once
    interpreter.GridExecutor.__call__ = run_and_forget


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
