"""The CLIP loss in three operators: what it computes is what the kernels compute one by one."""

import pytest
import torch

import fastclip
from fastclip.backends import cuda
from fastclip.backends.cuda import library
from fastclip.backends.cuda.variants import VARIANTS, chosen_variant
from fastclip.backends.gpu.scalars import NUM_SCALARS
from fastclip.benchmarks.cases import Case, make_inputs
from fastclip.ops import cross_entropy
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.rectangle import BOTH, MAIN_DIAGONAL, Rectangle
from tests.support.emulator import emulated
from tests.support.pairwise import cover_pairs

pytestmark = [
    pytest.mark.rehearsal,
    pytest.mark.skipif(torch.cuda.is_available(), reason="about the emulator"),
]
BLOCK_ONLY = 96 << 20  # bytes: no logits are kept


@pytest.fixture(params=VARIANTS)
def variant(request):
    with emulated(), chosen_variant(request.param):
        yield request.param


@pytest.fixture
def in_steps(monkeypatch):
    """A function that computes the loss as batches of several blocks do."""

    def run(*args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(cross_entropy, "whole_clip_loss", lambda *_: None)
            return at_once(*args, **options)

    return run


def at_once(inputs, factor=1.0, **options):
    leaves = [x.detach().requires_grad_() for x in inputs]
    loss = fastclip.clip_loss(*leaves, backend="cuda", **options)
    return loss.detach(), torch.autograd.grad(factor * loss, leaves)


def square_of(dtype, data="trained", normalize=True, N=200, D=72) -> Rectangle:
    inputs = make_inputs(Case(N, D, dtype, 30.0, data))
    return Rectangle(*inputs, MAIN_DIAGONAL, normalize=normalize)


@pytest.mark.parametrize(
    "data, normalize, dtype, workspace",
    cover_pairs(
        ["random", "trained", "cone", "adversarial"], [True, False],
        [torch.float16, torch.float32], [1 << 30, BLOCK_ONLY],
    ),
)  # fmt: skip
def test_loss_and_gradients_are_those_of_the_general_way(
    variant, in_steps, data, normalize, dtype, workspace
):
    inputs = make_inputs(Case(200, 33, dtype, 30.0, data))
    options = {"normalize": normalize, "workspace": workspace}
    loss, grads = at_once(inputs, **options)
    same_loss, same_grads = in_steps(inputs, **options)
    torch.testing.assert_close(loss, same_loss, rtol=1e-6, atol=0.0)
    # The gradients of statistics are rounded elsewhere, which may decide how an entry of G is.
    within = 1e-3 if dtype == torch.float16 else 1e-6
    for grad, same in zip(grads[:2], same_grads[:2], strict=True):
        assert (grad - same).norm() <= within * same.norm()
    torch.testing.assert_close(grads[2], same_grads[2], rtol=within, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_statistics_and_kept_logits_have_the_same_bits(variant, dtype):
    square = square_of(dtype, "adversarial", N=300, D=40)
    positive, shift, total, kept = contrastive_lse(square, Call("cuda", kept_rows=300))
    _, saved = cuda.clip_loss_at_once(square, cuda.cut_of_one_block(square, None), keep=True)
    same = torch.cat([positive, shift, total])
    assert torch.equal(saved.statistics[: len(same)], same)
    # Beyond the last pair a kept row is padded with what happens to be there.
    columns = 300 * kept.shape[1] // 384
    assert torch.equal(saved.kept[:, :columns], kept[:, :columns])


@pytest.mark.parametrize(
    "dtype, normalize, keep",
    cover_pairs([torch.float16, torch.float32], [True, False], [True, False]),
)
def test_gradients_of_the_same_statistics_have_the_same_bits(variant, dtype, normalize, keep):
    square = square_of(dtype, "cone", normalize)
    N, cut = len(square.rows), cuda.cut_of_one_block(square, None)
    loss, saved = cuda.clip_loss_at_once(square, cut, keep)
    grad_loss = torch.tensor(0.3)
    *gradients, of_scale = cuda.clip_loss_at_once_backward(square, grad_loss, saved, BOTH)

    block = getattr(library.operators("cpu"), VARIANTS[variant].prefix + "clip_loss_block")
    *_, vectors = block(square.rows, square.logit_scale, grad_loss, *saved, normalize, 2, 0)
    _, grad_total, grad_positive, _ = vectors.split([NUM_SCALARS, 2 * N, N, 2 * N])
    positive, shift, total = saved.statistics[: 5 * N].view(5, N).split([1, 2, 2])
    *same, same_of_scale = cuda.contrastive_lse_backward(
        square, grad_positive, grad_total, shift.view(-1), saved.kept, None, BOTH
    )
    for grad, other in zip(gradients, same, strict=True):
        if keep and not normalize and dtype == torch.float16:
            # The longest norm is rounded in another order, and steps of kept logits with it.
            assert (grad - other).norm() <= 1e-3 * other.norm()
        else:
            assert torch.equal(grad, other)
    torch.testing.assert_close(of_scale, same_of_scale, rtol=1e-4, atol=1e-7)

    # Against the formulas in float64.
    positive, shift, total = (x.double() for x in (positive, shift, total))
    excess = torch.sigmoid(shift - positive + total.log()) * 0.3 / (2 * N)
    close = {"rtol": 1e-5, "atol": 0.0}
    torch.testing.assert_close(grad_total.double(), (excess / total).flatten(), **close)
    torch.testing.assert_close(grad_positive.double(), -excess.sum(0), **close)
    true = torch.nn.functional.softplus(shift - positive + total.log()).mean()
    torch.testing.assert_close(loss.double(), true, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("normalize", [True, False])
def test_no_bit_depends_on_the_order_of_threads(variant, normalize):
    inputs = make_inputs(Case(270, 70, torch.float16, 30.0, "cone"))
    found = []
    for seed, early in ((0, False), (1, True)):
        with chosen_variant(variant), emulated(seed, early):
            loss, grads = at_once(inputs, normalize=normalize)
            found.append([loss, *grads])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_batch_of_gradients_is_computed_by_the_operators(variant):
    leaves = [x.requires_grad_() for x in make_inputs(Case(40, 24, torch.float32, 10.0))]
    loss = fastclip.clip_loss(*leaves, backend="cuda")
    factors = torch.tensor([1.0, -2.0, 0.5])
    batch = torch.autograd.grad(loss, leaves, factors, is_grads_batched=True, retain_graph=True)
    for i, factor in enumerate(factors):
        alone = torch.autograd.grad(loss, leaves, factor, retain_graph=True)
        torch.testing.assert_close([x[i] for x in batch], list(alone), rtol=1e-5, atol=1e-7)


def features_of(N: int, D: int) -> Rectangle:
    features = torch.empty(N, D, dtype=torch.bfloat16, device="meta")
    return Rectangle(features, features, torch.empty((), device="meta"), MAIN_DIAGONAL)


def test_which_batches_are_one_block():
    assert cuda.cut_of_one_block(features_of(8192, 512), None).num_panels == 1
    assert cuda.cut_of_one_block(features_of(4096, 1024), None)
    assert not cuda.cut_of_one_block(features_of(8448, 512), None)
    assert not cuda.cut_of_one_block(features_of(32768, 64), None)
    assert not cuda.cut_of_one_block(features_of(2048, 512), 1 << 20)
    assert cuda.cut_of_one_block(features_of(2048, 512), 8 << 20)
