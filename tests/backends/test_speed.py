"""Speed must not depend on the data: subnormal probabilities cost eager code a factor of 70."""

import time

import pytest
import torch

import fastclip
from fastclip.benchmarks.cases import Case, make_inputs


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@pytest.mark.alone
@pytest.mark.parametrize("loss", [fastclip.clip_loss, fastclip.siglip_loss])
def test_trained_embeddings_are_as_fast_as_random_ones(fused_backend, loss):
    torch.use_deterministic_algorithms(False)  # filling memory with nan would be timed as well
    steps = []
    for data in ("random", "trained"):
        leaves = [x.requires_grad_() for x in make_inputs(Case(1024, 256, data=data))]
        steps.append(
            lambda leaves=leaves: torch.autograd.grad(loss(*leaves, backend=fused_backend), leaves)
        )
    random, trained = (min(times) for times in zip(
        *([seconds(step) for step in steps] for _ in range(12)), strict=True
    ))  # fmt: skip
    # Subnormals would show as a factor of 10 and more; the rest is the noise of shared machines.
    assert trained < 2.5 * random
