"""The unit that every measurement repeats: one forward and backward of a provider on a case.

Gradients go to all inputs that want one, both features and logit_scale (and logit_bias), fresh each
time, as after an optimiser's `zero_grad`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.benchmarks.cases import Case, make_inputs
from fastclip.benchmarks.provider import Provider, load

LOGIT_BIAS = -10.0  # where the SigLIP paper starts it


class Outcome(NamedTuple):
    loss: Tensor  # ()
    gradients: tuple[Tensor, ...]  # one per input that wants it, in its shape


class Step:
    """`step()` runs the provider once on `inputs`; steps of one case may share theirs."""

    def __init__(
        self, provider: Provider, case: Case, inputs: tuple[Tensor, ...] | None = None
    ) -> None:
        self.case = case
        self.loss = load(provider, case.normalize)
        self.inputs = inputs_of(provider, case) if inputs is None else inputs
        self.leaves = [x for x in self.inputs if x.requires_grad]

    def __call__(self) -> Outcome:
        with torch.autocast(self.case.device, torch.bfloat16, enabled=self.case.autocast):
            loss = self.loss(*self.inputs)
        return Outcome(loss.detach(), torch.autograd.grad(loss, self.leaves))


def inputs_of(provider: Provider, case: Case) -> tuple[Tensor, ...]:
    """What the provider is called with; providers of one objective may share it."""
    if provider.inputs is not None:
        return provider.inputs(case)
    return leaves(provider.objective, case)


def leaves(objective: str, case: Case, seed: int = 0) -> tuple[Tensor, ...]:
    """The case's features, logit_scale and, for "siglip", logit_bias, to differentiate."""
    inputs = make_inputs(case, seed)
    if objective == "siglip":
        inputs = (*inputs, torch.full_like(inputs[2], LOGIT_BIAS))
    return tuple(x.requires_grad_() for x in inputs)
