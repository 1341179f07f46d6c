"""The unit that every measurement repeats: one forward and backward of a provider on a case.

    step        forward and backward
    forward     the loss with a graph that a backward could start from, which is then dropped
    backward    the gradients, from a graph that was made outside of the time

Gradients go to all inputs that want one, both features and logit_scale (and logit_bias), fresh each
time, as after an optimiser's `zero_grad`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastclip.benchmarks.cases import Case, make_inputs
from fastclip.benchmarks.provider import Provider, load

STEP, FORWARD, BACKWARD = "step", "forward", "backward"
PRODUCTS = {STEP: 4, FORWARD: 1, BACKWARD: 3}  # of N x N x D in the floor of each
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
        loss = self.forward()
        return Outcome(loss.detach(), torch.autograd.grad(loss, self.leaves))

    def forward(self) -> Tensor:
        with torch.autocast(self.case.device, torch.bfloat16, enabled=self.case.autocast):
            return self.loss(*self.inputs)


class Backward:
    """`prepare()` makes the step's graph; the call computes its gradients, and drops it."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.loss = None

    def prepare(self) -> None:
        self.loss = self.step.forward()

    def __call__(self) -> tuple[Tensor, ...]:
        loss, self.loss = self.loss, None
        return torch.autograd.grad(loss, self.step.leaves)


def call_of(step: Step, what: str) -> Callable[[], Any]:
    """What is timed of a step: all of it, its forward or its backward."""
    return {STEP: step, FORWARD: step.forward, BACKWARD: Backward(step)}[what]


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
