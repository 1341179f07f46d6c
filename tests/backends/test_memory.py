"""Memory is linear in N: counted by the allocator, at a batch where N x N bytes are 100 MiB."""

import pytest
import torch

import fastclip
from fastclip.benchmarks.cases import Case, make_inputs
from tests.support.allocations import MIB, allocations

N, D = 10_240, 4


def step(loss, dtype, **options):
    image, text, scale = make_inputs(Case(N, D, dtype, logit_scale=14.3))
    leaves = [x.requires_grad_() for x in (image, text, scale)]
    return lambda: torch.autograd.grad(loss(*leaves, **options), leaves)


@pytest.mark.parametrize("loss", [fastclip.clip_loss, fastclip.siglip_loss])
def test_no_allocation_of_size_n_by_n(fused_backend, loss):
    largest, peak = allocations(step(loss, torch.float32, backend=fused_backend))
    assert largest <= 64 * MIB
    assert peak <= 96 * MIB


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_features_are_not_converted_as_a_whole(dtype):
    """One float32 accumulator for one side is the only N x D in float32."""
    if fastclip.explain_backends()["cpu"] is not None:
        pytest.skip(fastclip.explain_backends()["cpu"])
    image, text, scale = make_inputs(Case(8192, 256, dtype))
    leaves = [x.requires_grad_() for x in (image, text, scale)]

    def run():
        torch.autograd.grad(
            fastclip.clip_loss(*leaves, backend="cpu", workspace=0, normalize=True), leaves
        )

    _, peak = allocations(run)
    gradients, accumulator = 2 * 8192 * 256 * 2, 8192 * 256 * 4
    panels = 8 * MIB + 2 * (4096 + 512) * 256 * 4  # of p; converted features and their sums
    assert peak <= gradients + accumulator + panels + MIB


def test_workspace_bounds_what_is_kept():
    if fastclip.explain_backends()["cpu"] is not None:
        pytest.skip(fastclip.explain_backends()["cpu"])
    image, text, scale = make_inputs(Case(3000, 8))
    leaves = [x.requires_grad_() for x in (image, text, scale)]
    peaks = [
        allocations(lambda w=workspace: fastclip.clip_loss(*leaves, backend="cpu", workspace=w))[1]
        for workspace in (0, 12 * MIB, 1 << 40)
    ]
    assert peaks[0] < 4 * MIB
    assert 8 * MIB < peaks[1] - peaks[0] <= 12 * MIB
    assert peaks[2] - peaks[0] == pytest.approx(4 * 3000 * 3000, rel=1e-3)
