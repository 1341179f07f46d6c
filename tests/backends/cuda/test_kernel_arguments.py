"""The compiled kernels by name: each tensor and number of a right call, made wrong, is refused."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from fastclip.backends.cuda import library
from fastclip.backends.cuda.variants import VARIANTS, chosen_variant
from fastclip.benchmarks.compilers.cuda import LAUNCHES
from fastclip.benchmarks.gpu import small_step
from tests.support.emulator import emulated

# The CLIP loss at once: operators of several kernels, some of which have none of their own.
AT_ONCE = {
    "clip_loss", "hopper_clip_loss", "clip_loss_block", "hopper_clip_loss_block",
    "clip_loss_features",
}  # fmt: skip
WITHIN = {"extents", "pairs", "mean_loss", "statistics_gradients", "scale_gradient"}
OPERATORS = sorted(LAUNCHES.keys() - WITHIN | AT_ONCE)

pytestmark = [
    pytest.mark.rehearsal,
    pytest.mark.skipif(torch.cuda.is_available(), reason="about the emulator"),
]


@pytest.fixture(scope="module")
def calls() -> dict[str, tuple]:
    """Operator to the arguments of one call of every kernel, as the backend makes it."""
    found = {}
    with emulated():
        operators = library.operators("cpu")

        def recorded(name: str):
            def call(*args):
                found.setdefault(name, args)
                return getattr(operators, name)(*args)

            return call

        recorder = SimpleNamespace(**{name: recorded(name) for name in OPERATORS})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(library, "operators", lambda device_type: recorder)
            for variant in VARIANTS:
                with chosen_variant(variant):
                    small_step.main("cuda", "cpu")
    return found


def wrong(operator: str, name: str, value) -> Iterator:
    # Without maxima there are no positives to write.
    unused = operator.endswith("negative_sums") and name == "positive"
    if isinstance(value, bool) or name == "stream" or unused:
        return
    if isinstance(value, int):
        yield from (-(2**40), 2**40)
    elif isinstance(value, Tensor):
        if value.numel() > 0:
            yield value.to(torch.float64)
            if name != "kept":  # nothing may be kept
                yield torch.zeros(0, dtype=value.dtype)
        if (operator, name) == ("positives", "positive"):
            return  # its size is that of the matrix
        yield torch.zeros(3, 5, 7, 2, dtype=value.dtype)
        if value.dim() > 1 and not value.mT.is_contiguous():
            yield value.mT
        if value.numel() > 1:
            yield value.flatten()[:-1]


@pytest.mark.parametrize("operator", OPERATORS)
def test_wrong_arguments_are_refused_by_name(calls, operator):
    overload = getattr(library.operators("cpu"), operator).default
    names = [x.name for x in overload._schema.arguments]
    right = dict(zip(names, calls[operator], strict=True))
    overload(*right.values())
    count = 0
    said = operator.removeprefix("hopper_")
    for name in names:
        for value in wrong(operator, name, right[name]):
            with pytest.raises(RuntimeError, match=rf"^fastclip_cuda::{said}: .* must .*"):
                overload(*(right | {name: value}).values())
            count += 1
    assert count >= 8
