"""Random calls of the CPU operators by name, right and wrong, in a process that sanitizers watch.

    python -m tests.hosts.operator_fuzz LIBRARY SEED SECONDS [NUMBER]

prints the number of a call before it is made: the last one of a process that died is the call that
killed it, and NUMBER makes that one alone. A right call must return, a wrong one return or raise
what an operator raises.
"""

import random
import sys
import time
import types

import torch
from torch import Tensor

from tests.support.operator_calls import FEATURES, arguments, wrong_values

SIZES = (1, 2, 3, 5, 17, 64, 129, 260)
MOST_CALLS = 8_000  # the same ones on every machine, however fast
DIFFERENTIABLE = "fastclip_native::clip_loss", "fastclip::contrastive_lse", "fastclip::siglip_sum"
REFUSALS = (ValueError, RuntimeError, TypeError)  # NotImplementedError is a RuntimeError


def load(library: str) -> list:
    """The operators, with the watched library in the place of the native module."""
    torch.ops.load_library(library)
    module = "fastclip._C_torch" + "_".join(torch.__version__.split(".")[:2])
    sys.modules[module] = types.ModuleType(module)
    import fastclip  # noqa: F401 registers the public ones

    both = "contrastive_lse", "contrastive_lse_backward", "siglip_sum", "siglip_sum_backward"
    both += "siglip_total", "prefix_lse", "prefix_lse_backward"
    native, public = torch.ops.fastclip_native, torch.ops.fastclip
    return [native.clip_loss.default] + [
        getattr(of, name).default for of in (native, public) for name in both
    ]


def call(overload, chance: random.Random) -> bool:
    """Whether it returned."""
    M, N, D = (chance.choice(SIZES) for _ in range(3))
    dtype = chance.choice((torch.float32, torch.float32, torch.float64, torch.bfloat16))
    right = arguments(overload, "cpu", (M, N, D), dtype)
    right |= {x: laid_out(right[x], chance) for x in FEATURES if x in right}
    for name, value in right.items():
        if isinstance(value, bool):
            right[name] = chance.random() < 0.5
    if "of_rows" in right and "shift" in right:
        length = M * right["of_rows"] + N * right["of_cols"]
        right |= {name: right[name][:length] for name in ("shift", "grad_total")}
    number_of_wrong = chance.choice((0, 1, 1, 2))
    given = dict(right)
    for name in chance.sample(list(right), number_of_wrong):
        given[name] = wrong(name, right[name], chance)
    try:
        result = overload(*given.values())
    except REFUSALS:
        assert number_of_wrong > 0, "a right call was refused"
        return False
    leaves = [x for x in given.values() if isinstance(x, Tensor) and x.requires_grad]
    if leaves and overload.name() in DIFFERENTIABLE:
        torch.autograd.grad(sum(x.sum() for x in result if x.requires_grad), leaves)
    return True


def laid_out(features: Tensor, chance: random.Random) -> Tensor:
    """The same in other strides; or with a gradient."""
    kind = chance.randrange(5)
    if kind == 0:
        return features.T.contiguous().T
    if kind == 1:
        return torch.cat([features, features], 1)[:, features.shape[1] :]
    if kind == 2:
        return features[:1].expand(len(features), -1)
    return features.clone().requires_grad_(kind == 3)


def wrong(name: str, right, chance: random.Random):
    """One of the wrong values, or any tensor, or an argument of another kind."""
    known = list(wrong_values(name, right))
    if known and chance.random() < 0.7:
        return chance.choice(known)
    if isinstance(right, Tensor):
        shape = [chance.choice((0, *SIZES)) for _ in range(chance.randrange(4))]
        dtype = chance.choice((right.dtype, torch.float32, torch.uint8, torch.float64))
        return torch.zeros(shape, dtype=dtype)
    return right if isinstance(right, (bool, str)) else chance.randrange(-(2**63), 2**63)


def main(library: str, seed: str, seconds: str, only: str | None = None) -> None:
    operators = load(library)
    end, number, returned = time.monotonic() + float(seconds), 0, 0
    while time.monotonic() < end and number < MOST_CALLS:
        number = int(only) if only is not None else number + 1
        chance = random.Random(f"{seed}/{number}")
        torch.manual_seed(number)
        overload = chance.choice(operators)
        print(number, overload.name(), flush=True)
        returned += call(overload, chance)
        if only is not None:
            break
    print(f"done: {number} calls, {returned} returned")


if __name__ == "__main__":
    main(*sys.argv[1:])
