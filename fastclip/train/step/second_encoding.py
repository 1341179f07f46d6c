"""Is the second encoding of a micro-batch the first one again? If not, its gradient is wrong.

The loss was computed with the features of the first; gradients of parameters come from the second.
What may differ is rounding: other kernels run with a graph than without, a compiler fuses them
differently, sums by atomics have no order. So the distance between the rows of both, relative to
their length, is compared with what rounding explains:

    2 sqrt( sum over parameters of (u^2 + K v^2) )

Each parameter is an operation: its result rounds once to u, that of the dtype in which the towers
compute, and it adds up K products, the size of a row of the parameter, which round to v, that of
the accumulator. Errors are independent, of both encodings, and add up as such. A smaller difference
does no more harm than they do. The same kernels give the same bits.

Source of the model: Higham and Mary 2019, doi:10.1137/18M1226312.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fastclip.train.step.model_call import OUTPUTS

# Half an ulp of one: of the formats into which a backend may round float32 before it multiplies.
PRODUCTS = {"tf32": 2.0**-11, "bf16": 2.0**-8}
SOURCES = ("the image tower", "the text tower", "the model's scale", "the model's bias")
SOURCES += ("the decoder of captions", "the number of tokens in captions")
ADVICE = (
    "Something in the forward changes from call to call and is not taken back: random numbers are "
    "if they come from torch, numpy, Python's random, or a generator that a module holds as an "
    "attribute (torch.Generator, numpy.random.Generator, numpy.random.RandomState, random.Random); "
    "other state is if it is in buffers. Keep it in one of those, or encode once, with "
    "activation_budget='unlimited' and, over ranks, without DistributedDataParallel "
    "(average_over='auto' averages the gradients instead)"
)


class SecondEncodings:
    """How far second encodings are from first ones, found without waiting for the device."""

    def __init__(self) -> None:
        self._differences: list[Tensor] = []
        self._places: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._differences)

    def compare(
        self, number: int, first: Mapping[str, Tensor], second: Mapping[str, Tensor]
    ) -> None:
        """Compare all outputs of micro-batch `number` that `second` has."""
        for name, output in second.items():
            self._differences.append(relative_difference(first[name], output))
            self._places.append((number, OUTPUTS.index(name)))

    def largest(self, device: torch.device) -> Tensor:
        """(3,) float32: the largest difference, its micro-batch and the number of its output.

        Zeros if nothing was encoded again.
        """
        if not self._differences:
            return torch.zeros(3, device=device)
        value, index = torch.stack([d.to(device) for d in self._differences]).max(dim=0)
        place = torch.tensor(self._places, dtype=torch.float32, device=device)[index]
        return torch.cat([value.reshape(1), place])


def relative_difference(first: Tensor, second: Tensor) -> Tensor:
    """() float32: the largest distance of two rows over the length of the first one.

    A row that is shorter than the mean of all counts as long as that. Rows that were not finite at
    the first time are left out: the loss has shown them.
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
    """The largest relative difference of features that rounding accounts for; see the module.

    Args:
        model: its parameters.
        dtype: the coarsest one that the towers compute in.
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
    """The dtype with the largest ulp among parameters, outputs and, in its context, autocast's."""
    tensors = (*model.parameters(), *outputs.values())
    dtypes = {t.dtype for t in tensors if t.is_floating_point()}
    for kind in {t.device.type for t in tensors}:
        if torch.is_autocast_enabled(kind):
            dtypes.add(torch.get_autocast_dtype(kind))
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)


def objection(found: list[list[float]], explained: float) -> str | None:
    """What is wrong, if the largest difference of any rank is more than rounding explains.

    Args:
        found: of every rank, what `largest` returned.
    """
    rank, (difference, number, output) = max(enumerate(found), key=lambda entry: entry[1][0])
    if difference <= explained:
        return None
    where = f" on rank {rank}" if len(found) > 1 else ""
    return (
        f"{SOURCES[int(output)]} returned another result at the second encoding of micro-batch "
        f"{int(number)} (counted from 0){where} than at the first: the relative difference is "
        f"{difference:.2g}, and rounding explains {explained:.2g}. The gradient would be wrong and "
        f"is dropped: `.grad` of all parameters of the model and of the loss is None. {ADVICE}"
    )


def _products(parameter: Tensor) -> float:
    """What float32 numbers are rounded to before this parameter is multiplied with them."""
    if parameter.device.type not in ("cpu", "cuda") or parameter.ndim < 2:
        return 0.0
    on_cpu, is_kernel = parameter.device.type == "cpu", parameter.ndim > 2
    backends = torch.backends
    if is_kernel:
        operation = backends.mkldnn.conv if on_cpu else backends.cudnn.conv
    else:
        operation = backends.mkldnn.matmul if on_cpu else backends.cuda.matmul
    return PRODUCTS.get(operation.fp32_precision, 0.0)
