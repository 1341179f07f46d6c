"""Checks that the second encoding of a micro-batch equals the first; else its gradient is wrong.

The loss is computed from the features of the first encoding, and the gradients of parameters come
from the second. The two may differ by rounding only: other kernels run with a graph than without, a
compiler fuses them differently, and sums by atomics have no order. So the distance between the rows
of both, relative to their length, is compared with the difference that rounding explains:

    2 sqrt( sum over parameters of (u^2 + K v^2) )

Each parameter is an operation. Its result is rounded once, with the unit roundoff u of the dtype in
which the towers compute; and it adds up K products, where K is the size of a row of the parameter,
with the unit roundoff v of the accumulator. The errors of both encodings are independent and add up
accordingly. A smaller difference does no more harm than rounding. The same kernels give the same
bits.

Source of the model: Higham and Mary 2019, doi:10.1137/18M1226312.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fastclip.train.step.model_call import OUTPUTS

# Half an ulp of 1 in the formats to which a backend may round float32 before it multiplies.
PRODUCTS = {"tf32": 2.0**-11, "bf16": 2.0**-8}
SOURCES = ("the image tower", "the text tower", "the model's scale", "the model's bias")
SOURCES += ("the decoder of captions", "the number of tokens in captions")
ADVICE = (
    "Something in the forward changes from call to call and is not restored for the second "
    "encoding. Random numbers are restored if they come from torch, numpy, Python's random, or a "
    "generator that a module holds as an attribute (torch.Generator, numpy.random.Generator, "
    "numpy.random.RandomState, random.Random); other state is restored if it is in buffers. Keep "
    "the state in one of these, or encode once, with activation_budget='unlimited' and, over "
    "ranks, without DistributedDataParallel (average_over='auto' averages the gradients instead)"
)


class SecondEncodings:
    """Measures how far second encodings are from first ones, without waiting for the device."""

    def __init__(self) -> None:
        self._differences: list[Tensor] = []
        self._places: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._differences)

    def compare(
        self, number: int, first: Mapping[str, Tensor], second: Mapping[str, Tensor]
    ) -> None:
        """Compare all outputs in `second` of micro-batch `number` with the first ones."""
        for name, output in second.items():
            self._differences.append(relative_difference(first[name], output))
            self._places.append((number, OUTPUTS.index(name)))

    def largest(self, device: torch.device) -> Tensor:
        """Return (3,) float32: the largest difference, its micro-batch and its output's number.

        Returns zeros if nothing was encoded again.
        """
        if not self._differences:
            return torch.zeros(3, device=device)
        value, index = torch.stack([d.to(device) for d in self._differences]).max(dim=0)
        place = torch.tensor(self._places, dtype=torch.float32, device=device)[index]
        return torch.cat([value.reshape(1), place])


def relative_difference(first: Tensor, second: Tensor) -> Tensor:
    """Return () float32: the largest distance of two rows over the length of the first one.

    A row that is shorter than the mean length counts as long as the mean. Rows that were not finite
    in the first encoding are left out, because the loss has shown them.
    """
    dtype = torch.promote_types(first.dtype, torch.float32)
    rows = first.detach().to(dtype).reshape(len(first) if first.ndim > 1 else 1, -1)
    distances = torch.linalg.vector_norm(second.detach().to(dtype).view_as(rows) - rows, dim=1)
    lengths = torch.linalg.vector_norm(rows, dim=1)
    finite = lengths.isfinite()
    mean = torch.where(finite, lengths, 0.0).mean()
    relative = distances / torch.maximum(lengths, mean)
    relative = torch.where(finite & (distances != 0), relative, 0.0)
    return torch.nan_to_num(relative, nan=torch.inf, posinf=torch.inf).max().float()


def rounding_explains(model: nn.Module, dtype: torch.dtype) -> float:
    """Return the largest relative difference of features that rounding explains; see the module.

    Args:
        model: whose parameters count.
        dtype: the coarsest dtype in which the towers compute.
    """
    u = torch.finfo(dtype).eps / 2
    v = min(u, torch.finfo(torch.float32).eps / 2)
    total = 0.0
    for parameter in model.parameters():
        K = math.prod(parameter.shape[1:])
        products = _products(parameter) if dtype == torch.float32 else 0.0
        total += max(u, products) ** 2 + K * v**2
    return 2 * math.sqrt(total)


def coarsest(model: nn.Module, outputs: Mapping[str, Tensor]) -> torch.dtype:
    """Return the coarsest dtype of parameters, outputs and, in its context, autocast."""
    tensors = (*model.parameters(), *outputs.values())
    dtypes = {t.dtype for t in tensors if t.is_floating_point()}
    for kind in {t.device.type for t in tensors}:
        if torch.is_autocast_enabled(kind):
            dtypes.add(torch.get_autocast_dtype(kind))
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)


def objection(found: list[list[float]], explained: float) -> str | None:
    """Return an error message if the largest difference is more than rounding explains, or None.

    Args:
        found: the results of `largest` on every rank.
    """
    rank, (difference, number, output) = max(enumerate(found), key=lambda entry: entry[1][0])
    if difference <= explained:
        return None
    where = f" on rank {rank}" if len(found) > 1 else ""
    return (
        f"{SOURCES[int(output)]} returned another result in the second encoding of micro-batch "
        f"{int(number)} (counted from 0){where} than in the first: the relative difference is "
        f"{difference:.2g}, and rounding explains {explained:.2g}. The gradient would be wrong and "
        f"is dropped: `.grad` of all parameters of the model and of the loss is None. {ADVICE}"
    )


def _products(parameter: Tensor) -> float:
    """Return the unit roundoff of float32 numbers before this parameter is multiplied with them."""
    if parameter.device.type not in ("cpu", "cuda") or parameter.ndim < 2:
        return 0.0
    on_cpu, is_kernel = parameter.device.type == "cpu", parameter.ndim > 2
    backends = torch.backends
    if is_kernel:
        operation = backends.mkldnn.conv if on_cpu else backends.cudnn.conv
    else:
        operation = backends.mkldnn.matmul if on_cpu else backends.cuda.matmul
    return PRODUCTS.get(operation.fp32_precision, 0.0)
