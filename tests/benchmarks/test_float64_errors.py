"""The truth that providers are compared with is itself checked: by autograd, by long decimals."""

import decimal
import math
from decimal import Decimal

import pytest
import torch
import torch.nn.functional as F

from fastclip.benchmarks import accuracy
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.step import Outcome, leaves


def eager_clip(image, text, logit_scale):
    logits, labels = logit_scale * image @ text.T, torch.arange(len(image))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def eager_siglip(image, text, logit_scale, logit_bias):
    signs = 2 * torch.eye(len(image)) - 1
    logits = logit_scale * image @ text.T + logit_bias
    return F.softplus(-signs * logits, threshold=1e9).sum() / len(image)


@pytest.mark.parametrize("objective, eager", [("clip", eager_clip), ("siglip", eager_siglip)])
def test_exact_agrees_with_float64_autograd(objective, eager, monkeypatch):
    monkeypatch.setattr(accuracy, "CHUNK_ROWS", 10)
    inputs = leaves(objective, Case(N=37, D=16, dtype=torch.float64, logit_scale=10.0))
    loss = eager(*inputs)
    truth = accuracy.exact(objective, inputs)
    torch.testing.assert_close(truth.loss, loss.detach())
    expected = torch.autograd.grad(loss, inputs)
    assert len(truth.gradients) == len(expected)
    for gradient, of_autograd in zip(truth.gradients, expected, strict=True):
        torch.testing.assert_close(gradient, of_autograd)


def test_exact_keeps_relative_accuracy_where_the_loss_is_tiny():
    image, text, scale = leaves("clip", Case(N=4, D=256, dtype=torch.float64, data="trained"))
    with decimal.localcontext() as context:
        context.prec = 60
        logits = [[Decimal(x) for x in row] for row in (scale * image @ text.T).tolist()]
        columns = [list(column) for column in zip(*logits, strict=True)]
        losses = [
            sum((entry - row[i]).exp() for entry in row).ln()
            for rows in (logits, columns)
            for i, row in enumerate(rows)
        ]
        expected = sum(losses) / len(losses)
    assert expected < Decimal("1e-20")
    loss = accuracy.exact("clip", (image, text, scale)).loss.item()
    assert abs(Decimal(loss) / expected - 1) < Decimal("1e-11")


def test_exact_softplus_neither_overflows_nor_rounds():
    values = torch.tensor([-70.0, 21.0, 900.0], dtype=torch.float64)
    expected = torch.tensor([math.exp(-70), 21 + math.exp(-21), 900.0], dtype=torch.float64)
    torch.testing.assert_close(accuracy._softplus(values), expected, rtol=1e-14, atol=0.0)


def test_errors_are_relative_norms():
    truth = Outcome(torch.tensor(2.0).double(), (torch.tensor([3.0, 4.0]).double(),))
    outcome = Outcome(torch.tensor(2.5), (torch.tensor([3.0, 4.5]),))
    assert accuracy.errors(outcome, truth) == pytest.approx(
        {"loss": 0.25, "image_features": 0.1, "loss_absolute": 0.5}
    )


def test_errors_of_a_single_pair_are_absolute():
    inputs = leaves("clip", Case(N=1, D=8))
    truth = accuracy.exact("clip", inputs)
    assert truth.loss == 0 and not any(gradient.any() for gradient in truth.gradients)
    outcome = truth._replace(loss=torch.tensor(1e-3))
    assert accuracy.errors(outcome, truth)["loss"] == pytest.approx(1e-3)
