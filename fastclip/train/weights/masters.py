"""float32 copies of 16-bit weights, which an optimiser steps in their place.

    model      w           16 bits: what forwards and backwards see
    master     m           float32: m <- AdamW(m, float32(gradient of w)), then w <- round(m)

A bfloat16 weight has 8 significant bits: a step of less than 1/512 of it is lost when it is added
to the weight itself, and steps of fine-tuning are a hundredth of that. Added to the master, steps
add up until they show. AdamW's averages have the dtype of what is stepped: float32 as well.

Source: Micikevicius et al. 2017, arXiv:1710.03740, section 3.1.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from fastclip.train.weights.sharding import shared_like

DTYPES_OF_16_BITS = (torch.float16, torch.bfloat16)


class MasterWeights:
    """float32 masters of those parameters that are trained and held in 16 bits.

    Masters are shared among ranks as their parameters are. They begin at the weights.

    Args:
        named_parameters: of a model on its device; by default none, so that there are no masters
            and every parameter stands for itself.

    Example:
        >>> masters = MasterWeights(model.named_parameters())
        >>> optimizer = make_optimizer(model, config, masters)
        >>> loss.backward()
        >>> masters.take_gradients()
        >>> optimizer.step()
        >>> masters.write_back()
    """

    def __init__(self, named_parameters: Iterable[tuple[str, nn.Parameter]] = ()) -> None:
        self._parameters = {
            name: parameter
            for name, parameter in named_parameters
            if parameter.requires_grad and parameter.dtype in DTYPES_OF_16_BITS
        }
        self._masters = {
            parameter: nn.Parameter(parameter.detach().float())
            for parameter in self._parameters.values()
        }

    def of(self, parameter: nn.Parameter) -> nn.Parameter:
        """The master of a parameter, or itself if it has none: what an optimiser is to step."""
        return self._masters.get(parameter, parameter)

    def take_gradients(self) -> None:
        """Move gradients, in float32, from parameters to their masters, one after the other."""
        for parameter, master in self._masters.items():
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None

    @torch.no_grad()
    def write_back(self) -> None:
        """Round the masters to the parameters, and drop the gradients of the masters."""
        for parameter, master in self._masters.items():
            parameter.copy_(master)
        self.drop_gradients()

    def drop_gradients(self) -> None:
        for master in self._masters.values():
            master.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """The masters by the names of their parameters."""
        return {name: self._masters[p].detach() for name, p in self._parameters.items()}

    @torch.no_grad()
    def load_state_dict(self, weights: dict[str, Tensor]) -> None:
        """Set the masters to weights that a model of the same names has loaded before.

        Args:
            weights: whole tensors, that every rank has, in any dtype: 16-bit weights, as a run
                without masters stores them, are where masters begin.
        """
        for name, master in self.state_dict().items():
            master.copy_(shared_like(weights[name], master))


NO_MASTERS = MasterWeights()


class MasteredModel:
    """The parameters of a model, masters in the place of what has one, and its buffers.

    It is what an average of the weights takes in, which asks a model for nothing else.
    """

    def __init__(self, model: nn.Module, masters: MasterWeights) -> None:
        self._model, self._masters = model, masters

    def parameters(self) -> Iterator[nn.Parameter]:
        return map(self._masters.of, self._model.parameters())

    def buffers(self) -> Iterator[Tensor]:
        return self._model.buffers()
