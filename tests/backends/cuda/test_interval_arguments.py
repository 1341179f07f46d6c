"""The compiled kernels by name: intervals that are wrong are refused, by every operator."""

import pytest
import torch
from torch import Tensor

from fastclip.backends.cuda import library
from fastclip.backends.cuda.variants import VARIANTS, chosen_variant
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.rectangle import Interval, Rectangle
from tests.support.emulator import emulated

pytestmark = [
    pytest.mark.rehearsal,
    pytest.mark.skipif(torch.cuda.is_available(), reason="about the emulator"),
]


OPERATORS = (
    "negative_sums", "hopper_negative_sums", "finalise", "logit_gradients",
    "hopper_logit_gradients", "kept_gradients", "sigmoid_tiles", "hopper_sigmoid_tiles",
)  # fmt: skip


def int32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


@pytest.fixture(scope="module")
def calls() -> dict[str, list[tuple]]:
    """Operator to the arguments of its calls, as the backend makes them."""
    found = {}
    with emulated():
        operators = library.operators("cpu")

        def recorded(name: str):
            def call(*args):
                found.setdefault(name, []).append(args)
                return getattr(operators, name)(*args)

            return call

        class Recorder:
            def __getattr__(self, name: str):
                return recorded(name)

        generator = torch.Generator().manual_seed(0)
        leaves = [torch.randn(n, 8, generator=generator).requires_grad_() for n in (4, 6)]
        interval = Interval(int32(0, 1, 2, 3), int32(1, 2, 3, 9))
        of = Rectangle(*leaves, torch.tensor(1.0), None, interval)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(library, "operators", lambda device_type: Recorder())
            for name in VARIANTS:
                with chosen_variant(name):
                    for kept_rows in (0, 4):
                        _, _, total, _ = contrastive_lse(of, Call("cuda", kept_rows=kept_rows))
                        torch.autograd.grad(total.sum(), leaves)
                    siglip_sum(of, torch.tensor(0.0), Call("cuda"))
    return found


@pytest.mark.parametrize("operator", OPERATORS)
def test_wrong_intervals_are_refused(calls, operator):
    overload = getattr(library.operators("cpu"), operator).default
    names = [x.name for x in overload._schema.arguments]
    for args in calls[operator]:
        right = dict(zip(names, args, strict=True))
        begin = right["excluded_begin"]
        assert len(begin) == 4
        wrong = (
            begin.long(), begin.float(), begin[:3].clone(), int32(*range(5)),
            int32(*range(8))[::2],
        )  # fmt: skip
        for name in ("excluded_begin", "excluded_end"):
            for value in wrong:
                message = rf"{name} must be a contiguous int32 tensor of 4 elements on the same"
                with pytest.raises(RuntimeError, match=message):
                    overload(*(right | {name: value}).values())
            with pytest.raises(RuntimeError, match="must be given together, got one of them"):
                overload(*(right | {name: None}).values())
        overload(*right.values())
