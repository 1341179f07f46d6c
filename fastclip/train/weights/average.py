"""An exponential average of the weights, in float32 whatever the dtype of the weights.

With a decay of 0.999, an average moves by a thousandth of the difference at every step. In
bfloat16, which has 8 significant bits, this is lost as soon as the difference is smaller than the
average itself: such an average would stay where it began.

Integers are copied from the model, because they are indices, and rounding could change their mean.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

from fastclip.models.precision import set_precision


class Weights(Protocol):
    """The input of an average: a module, or an object with these two methods of a module."""

    def parameters(self) -> Iterator[Tensor]: ...

    def buffers(self) -> Iterator[Tensor]: ...


class WeightAverage(AveragedModel):
    """An average of the parameters of a model and of its buffers; integers are copied.

    Args:
        model: is copied, in float32, to the attribute `module`.
        decay: the fraction of the average that stays at every step, in (0, 1).
        by_shares: the model and the average will be sharded; torch averages shares one by one.
    """

    def __init__(self, model: nn.Module, decay: float, by_shares: bool = False) -> None:
        if by_shares:
            average = {"avg_fn": _of_numbers(get_ema_avg_fn(decay))}
        else:
            average = {"multi_avg_fn": _of_lists(get_ema_multi_avg_fn(decay))}
        super().__init__(model, **average, use_buffers=True)
        set_precision(self.module, "fp32")

    def update_parameters(self, model: Weights) -> None:
        """Average with the weights of `model`, of any float dtype; the first call copies them."""
        super().update_parameters(_InFloat32(model))


def _of_numbers(average: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def averaged(mean: Tensor, value: Tensor, num: Tensor) -> Tensor:
        return average(mean, value, num) if _has_mean(mean) else value

    return averaged


def _of_lists(average: Callable[..., None]) -> Callable[..., None]:
    def take_in(means: list[Tensor], values: list[Tensor], num: Tensor) -> None:
        if _has_mean(means[0]):  # all are of one dtype
            average(means, values, num)
        else:
            torch._foreach_copy_(means, values)

    return take_in


def _has_mean(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


class _InFloat32:
    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def parameters(self) -> Iterator[Tensor]:
        return map(_in_float32, self._weights.parameters())

    def buffers(self) -> Iterator[Tensor]:
        return map(_in_float32, self._weights.buffers())


def _in_float32(tensor: Tensor) -> Tensor:
    return tensor.detach().float() if tensor.is_floating_point() else tensor
