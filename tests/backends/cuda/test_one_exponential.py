"""Hopper's blocks of G: tiles of near shifts take one exponential, others two, as other kernels do.

In the emulator both sets of kernels have the same accumulators, so that their bits are equal where
both take two exponentials.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fastclip
from fastclip.backends.cuda import kernels
from fastclip.backends.cuda.variants import chosen_variant
from fastclip.backends.gpu.logit_matrix import GradientVectors, LogitMatrix, Region
from fastclip.backends.gpu.scalars import LargestGradients
from tests.support import exact, rounded
from tests.support.emulator import emulated
from tests.support.tolerance import check_value_and_grads

pytestmark = [
    pytest.mark.rehearsal,
    pytest.mark.skipif(torch.cuda.is_available(), reason="about the emulator"),
]

N, D, SCALE = 300, 64, 100.0  # four tiles of 256 x 256, two blocks of 128 rows in each
INF = float("inf")


def spread_features(
    lowest: float, highest: float, dtype=torch.float16, size: int = N
) -> tuple[Tensor, Tensor]:
    """The cosines of row i with all columns are about the i-th of numbers in this range."""
    generator = torch.Generator().manual_seed(0)
    axis = F.one_hot(torch.tensor(0), D).float()
    noise = torch.randn(2, size, D, generator=generator)
    noise[..., 0] = 0.0
    rows, cols = F.normalize(noise, dim=2)
    cosine = torch.linspace(lowest, highest, size)[:, None]
    rows = cosine * axis + (1 - cosine**2).sqrt() * rows
    return rows.to(dtype), F.normalize(axis + 0.05 * cols, dim=1).to(dtype)


def block_of_G(variant: str, features: tuple[Tensor, Tensor], shift: Tensor) -> Tensor:
    """(planes, 512, 512) float16: weight G, for random gradients w.r.t. totals and positives."""
    generator = torch.Generator().manual_seed(1)
    matrix = LogitMatrix(N, N, 0)
    planes = 2 if features[0].dtype == torch.float32 else 1
    grads = torch.rand(3 * N, generator=generator) - 0.5
    vectors = GradientVectors(shift, grads[: 2 * N], grads[2 * N :])
    largest = LargestGradients(vectors.grad_total.abs().max(), vectors.grad_positive.abs().max())
    with emulated(), chosen_variant(variant):
        rows, cols = (kernels.prepare(x, None, planes) for x in features)
        scalars = kernels.scalars(torch.tensor(SCALE), None, None, None, N, largest)
        block = torch.full((planes, 512, 512), float("nan"), dtype=torch.float16)
        region = Region(matrix, 0, 0, 512, 512)
        kernels.recomputed(region, rows, cols, scalars, block, vectors)
    return block


def shifts(features: tuple[Tensor, Tensor]) -> Tensor:
    """As the forward may give them: (2 N,), in natural units."""
    rows, cols = (F.normalize(x.double(), dim=1) for x in features)
    logits = SCALE * rows @ cols.T
    return torch.cat([logits.logsumexp(1), logits.logsumexp(0)]).float()


def blocks_of(features: tuple[Tensor, Tensor], shift: Tensor) -> tuple[Tensor, Tensor]:
    return block_of_G("hopper", features, shift), block_of_G("portable", features, shift)


def close(one: Tensor, two: Tensor) -> bool:
    """A rounding of float16 apart, and what 2^-17 of the larger exponential moves it by."""
    one, two = one.double(), two.double()
    return bool(((one - two).abs() <= 2.0**-10 * two.abs() + 2.0**-10).all())


def test_near_shifts_take_one_exponential():
    features = spread_features(0.1, 0.6)  # 72 in log2 units
    one, two = blocks_of(features, shifts(features))
    assert not torch.equal(one, two) and close(one, two)


def test_far_shifts_take_two():
    """In the tiles that have them: the others take one."""
    features = spread_features(0.3, 0.4)
    shift = shifts(features)
    shift[3] += 60.0
    one, two = blocks_of(features, shift)
    upper = slice(0, 128)  # the rows of the block that row 3 is in
    assert torch.equal(one[:, upper], two[:, upper])
    assert not torch.equal(one[:, 128:], two[:, 128:]) and close(one, two)


def test_two_planes_take_two():
    features = spread_features(0.3, 0.4, torch.float32)
    one, two = blocks_of(features, shifts(features))
    assert torch.equal(one, two)


def test_the_limit_is_80():
    features = spread_features(0.3, 0.35)
    shift = 35.0 + torch.rand(2 * N, generator=torch.Generator().manual_seed(2))
    shift[:N:25] = 35.0
    for apart, takes_one in ((79.9, True), (80.1, False)):
        shift[1:N:25] = 35.0 + apart * 0.6931472  # every block of 128 rows has both
        one, two = blocks_of(features, shift)
        assert torch.equal(one, two) != takes_one and close(one, two)


@pytest.mark.parametrize("nothing", [INF, -INF])
def test_a_side_without_exponentials_does_not_spread(nothing):
    """A row without negatives; the side that nobody wants."""
    features = spread_features(0.1, 0.6)
    shift = shifts(features)
    shift[N:] = nothing
    one, two = blocks_of(features, shift)
    # Where the portable kernels see a row of the matrix with -inf, there are no negatives in it.
    assert one.isfinite().all() and not torch.equal(one, two) and close(one, two)


def test_a_nan_stays_in_its_row():
    features = spread_features(0.1, 0.6)
    shift = shifts(features)
    shift[7] = float("nan")
    one, _ = blocks_of(features, shift)
    of_row = one[0, 7, :N]
    assert of_row.isnan().sum() == N - 1 and one.isnan().sum() == N - 1  # all but the pair


def test_no_bit_depends_on_the_order_of_threads_or_the_time_of_copies():
    """Nine tiles of two clusters: both buffers are filled again."""
    leaves = [x.requires_grad_() for x in spread_features(-0.9, 0.9, size=600)]
    found = []
    for seed, early in ((0, False), (1, True), (2, False)):
        with emulated(seed, early), chosen_variant("hopper"):
            loss = fastclip.clip_loss(*leaves, torch.tensor(SCALE), backend="cuda")
            found.append(torch.autograd.grad(loss, leaves))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("lowest, highest", [(0.1, 0.6), (0.0, 0.7), (-0.9, 0.9)])
def test_both_ways_are_within_the_budget(lowest, highest):
    image, text = spread_features(lowest, highest)
    scale = torch.tensor(SCALE)
    leaves = [x.clone().requires_grad_() for x in (image, text, scale)]
    with emulated(), chosen_variant("hopper"):
        value = fastclip.clip_loss(*leaves, backend="cuda", normalize=True)
        grads = torch.autograd.grad(value, leaves)
    check_value_and_grads(
        (value.detach(), grads), exact.clip_loss, image, text, scale, eager=rounded.clip_loss,
        normalize=True,
    )  # fmt: skip
