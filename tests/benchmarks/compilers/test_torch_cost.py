"""Backend `chunked` on a GPU against open_clip's eager loss, by what both move and multiply."""

import pytest
import torch

from fastclip.benchmarks.compilers.torch_cost import (
    BEFORE,
    Passes,
    chunked_passes,
    open_clip_passes,
    passes_of,
)


@pytest.mark.parametrize("D", [512, 768, 1024])
@pytest.mark.parametrize("N", [4096, 32_768])
def test_chunked_is_not_slower_than_open_clip_under_autocast(N, D):
    ours, eager = chunked_passes(N, D), open_clip_passes(N, D)
    assert ours.flops == {2: 8 * N * N * D, 4: 0}
    assert eager.flops == {2: 12 * N * N * D, 4: 0}
    assert ours.seconds <= eager.seconds


def test_passes_over_the_logits_are_as_documented():
    """Forward 44 and backward 46 bytes; the rest grows with N D."""
    counts = [chunked_passes(4096, D).num_bytes for D in (64, 128)]
    of_logits = (2 * counts[0] - counts[1]) / 4096**2
    assert of_logits == pytest.approx(90, abs=0.5)
    counts = [open_clip_passes(4096, D).num_bytes for D in (64, 128)]
    assert (2 * counts[0] - counts[1]) / 4096**2 == pytest.approx(84, abs=0.5)


def test_float32_products_were_several_times_slower():
    before, now = chunked_passes(4096, 768, BEFORE), chunked_passes(4096, 768)
    assert before.flops == {2: 0, 4: 8 * 4096 * 4096 * 768}
    assert before.seconds > 4 * now.seconds


def test_each_tensor_is_counted_once_per_operator():
    x = torch.empty(100, 50, device="meta")
    row = torch.empty(50, device="meta").expand(100, 50)
    assert passes_of(lambda: x + row) == Passes(4 * (5000 + 50 + 5000), {2: 0, 4: 0})
    assert passes_of(lambda: x.mul_(row)).num_bytes == 4 * (2 * 5000 + 50)
    assert passes_of(lambda: x.zero_()).num_bytes == 4 * 5000
    assert passes_of(lambda: torch.exp(x, out=torch.empty_like(x))).num_bytes == 4 * 2 * 5000
    assert passes_of(lambda: x.T).num_bytes == 0
    assert passes_of(lambda: x @ x.T) == Passes(4 * (2 * 5000 + 10_000), {2: 0, 4: 10**6})
