"""The cross-entropy of tokens in blocks is that of their logits, in bounded memory."""

import pytest
import torch
import torch.nn.functional as F

from fastclip.ops.token_losses import token_losses
from tests.support.allocations import allocations


def inputs(B=3, T=5, W=8, V=11, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(B, T, W, generator=generator, dtype=dtype)
    vocabulary = torch.randn(W, V, generator=generator, dtype=dtype)
    labels = torch.randint(0, V, (B, T), generator=generator)
    labels[:, -2:] = 0  # padding
    labels[0, 0] = 7
    return hidden, vocabulary, labels


def expected_losses(hidden, vocabulary, labels):
    logits = hidden @ vocabulary
    return F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=0, reduction="none")


@pytest.mark.parametrize("block_numbers", [1, 4 * 11, 7 * 11, 10**6])
def test_values_and_gradients_are_those_of_the_logits(block_numbers):
    found, weights = [], torch.linspace(0.5, 2, 15, dtype=torch.float64).view(3, 5)
    for function in (
        expected_losses,
        lambda *each: token_losses(*each, ignored=0, block_numbers=block_numbers),
    ):
        hidden, vocabulary, labels = inputs()
        hidden.requires_grad_(), vocabulary.requires_grad_()
        losses = function(hidden, vocabulary, labels)
        (losses * weights).sum().backward()
        found.append((losses.detach(), hidden.grad, vocabulary.grad))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)
    assert (found[1][0][:, -2:] == 0).all() and (found[1][0] > 0).any()


def test_sixteen_bits_have_losses_in_float32():
    hidden, vocabulary, labels = inputs(dtype=torch.float32)
    expected = expected_losses(hidden, vocabulary, labels)
    hidden, vocabulary = hidden.bfloat16().requires_grad_(), vocabulary.bfloat16().requires_grad_()
    losses = token_losses(hidden, vocabulary, labels, 0)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, expected, rtol=0.02, atol=0.1)
    losses.sum().backward()
    assert hidden.grad.dtype == vocabulary.grad.dtype == torch.bfloat16


def test_autocast_says_the_dtype_of_products():
    hidden, vocabulary, labels = inputs(dtype=torch.float32)
    hidden.requires_grad_(), vocabulary.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        losses = token_losses(hidden, vocabulary, labels, 0)
    rounded = token_losses(hidden.bfloat16(), vocabulary.bfloat16(), labels, 0)
    assert torch.equal(losses, rounded) and losses.dtype == torch.float32
    losses.sum().backward()
    assert hidden.grad.dtype == vocabulary.grad.dtype == torch.float32


def test_logits_of_all_tokens_are_never_held():
    B, T, W, V = 8, 16, 4, 4096
    block_numbers = 4 * V
    hidden, vocabulary, labels = inputs(B, T, W, V, torch.float32)
    hidden.requires_grad_(), vocabulary.requires_grad_()

    def forward_and_backward():
        token_losses(hidden, vocabulary, labels, 0, block_numbers).sum().backward()

    largest, peak = allocations(forward_and_backward)
    whole = B * T * V * 4
    assert largest <= 4 * V * 4 and peak < whole / 4
    assert allocations(
        lambda: expected_losses(hidden, vocabulary, labels).sum().backward()
    )[0] >= whole  # fmt: skip


def test_shapes_that_do_not_fit_are_named():
    hidden, vocabulary, labels = inputs()
    with pytest.raises(ValueError, match=r"\(3, 5, 8\), \(8, 11\) and \(3, 4\)"):
        token_losses(hidden, vocabulary, labels[:, 1:], 0)
