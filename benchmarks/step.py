"""The unit that every measurement repeats: one forward and backward of a provider on a case.

    step        forward and backward
    forward     the loss with a graph that a backward could start from, which is then dropped
    backward    the gradients, from a graph whose construction is not timed

All inputs that require a gradient get one: both features and logit_scale (and logit_bias). The
gradients are new tensors each time, as after an optimiser's `zero_grad`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastclip.benchmarks.cases import Case, make_inputs
from fastclip.benchmarks.provider import Provider, load

STEP, FORWARD, BACKWARD = "step", "forward", "backward"
PRODUCTS = {STEP: 4, FORWARD: 1, BACKWARD: 3}  # N x N x D products in the floor of each
LOGIT_BIAS = -10.0  # the initial value in the SigLIP paper


class Outcome(NamedTuple):
    loss: Tensor  # ()
    gradients: tuple[Tensor, ...]  # one per input that requires it, in its shape


class Step:
    """`step()` runs the provider once on `inputs`, which steps of one case may share."""

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
    """`prepare()` makes the step's graph; the call computes its gradients and drops the graph."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.loss = None

    def prepare(self) -> None:
        self.loss = self.step.forward()

    def __call__(self) -> tuple[Tensor, ...]:
        loss, self.loss = self.loss, None
        return torch.autograd.grad(loss, self.step.leaves)


def call_of(step: Step, what: str) -> Callable[[], Any]:
    """Return the call to time: the whole step, its forward or its backward."""
    return {STEP: step, FORWARD: step.forward, BACKWARD: Backward(step)}[what]


def inputs_of(provider: Provider, case: Case) -> tuple[Tensor, ...]:
    """Return the provider's inputs; providers of one objective may share them."""
    if provider.inputs is not None:
        return provider.inputs(case)
    return leaves(provider.objective, case)


def leaves(objective: str, case: Case, seed: int = 0) -> tuple[Tensor, ...]:
    """Return the case's features, logit_scale and, for "siglip", logit_bias, with gradients."""
    inputs = make_inputs(case, seed)
    if objective == "siglip":
        inputs = (*inputs, torch.full_like(inputs[2], LOGIT_BIAS))
    return tuple(x.requires_grad_() for x in inputs)
