"""float32 copies of 16-bit weights, which an optimiser steps in place of the weights.

    model      w           16 bits: what forwards and backwards see
    master     m           float32: m <- AdamW(m, float32(gradient of w)), then w <- round(m)

A bfloat16 weight has 8 significant bits: a step of less than 1/512 of the weight is lost when it is
added to the weight itself, and steps of fine-tuning are a hundredth of that. In the master, steps
add up until they change the weight. AdamW's averages have the dtype of the masters: also float32.

Source: Micikevicius et al. 2017, arXiv:1710.03740, section 3.1.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from fastclip.train.weights.sharding import shared_like

DTYPES_OF_16_BITS = (torch.float16, torch.bfloat16)


class MasterWeights:
    """float32 masters of the trained 16-bit parameters of a model.

    Masters are sharded over ranks like their parameters. They begin with the values of the weights.

    Args:
        named_parameters: of a model on its device; by default none, so that there are no masters
            and the optimiser steps the parameters themselves.

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
        """Return what an optimiser steps: the master of a parameter, or itself without a master."""
        return self._masters.get(parameter, parameter)

    def take_gradients(self) -> None:
        """Move gradients from parameters to their masters, in float32, one after the other."""
        for parameter, master in self._masters.items():
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy the rounded masters to the parameters, and drop the gradients of the masters."""
        for parameter, master in self._masters.items():
            parameter.copy_(master)
        self.drop_gradients()

    def drop_gradients(self) -> None:
        for master in self._masters.values():
            master.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """Return the masters under the names of their parameters."""
        return {name: self._masters[p].detach() for name, p in self._parameters.items()}

    @torch.no_grad()
    def load_state_dict(self, weights: dict[str, Tensor]) -> None:
        """Set the masters to weights that the model has loaded before under the same names.

        Args:
            weights: whole tensors on every rank, in any dtype. 16-bit weights, as a run without
                masters stores them, become the first values of the masters.
        """
        for name, master in self.state_dict().items():
            master.copy_(shared_like(weights[name], master))


NO_MASTERS = MasterWeights()


class MasteredModel:
    """The parameters of a model, replaced by masters where there are any, and its buffers.

    An average of the weights takes this in, and needs nothing else of a model.
    """

    def __init__(self, model: nn.Module, masters: MasterWeights) -> None:
        self._model, self._masters = model, masters

    def parameters(self) -> Iterator[nn.Parameter]:
        return map(self._masters.of, self._model.parameters())

    def buffers(self) -> Iterator[Tensor]:
        return self._model.buffers()
