"""A probe's objective: its value and gradient by definition, in any coordinates and blocks."""

import pytest
import torch
import torch.nn.functional as F

from fastclip.evaluate.probe import objective
from fastclip.evaluate.probe.objective import Objective


def problem(num_classes, num=60, dim=7):
    generator = torch.Generator().manual_seed(num_classes)
    features = 3 + torch.randn(num, dim, generator=generator)
    return features, torch.arange(num) % num_classes


@pytest.mark.parametrize("num_classes, rows, c", [(2, 7, 0.1), (3, 10**6, 4.0), (9, 1, 100.0)])
def test_value_and_gradient_are_those_of_the_definition(num_classes, rows, c, monkeypatch):
    features, labels = problem(num_classes)
    monkeypatch.setattr(objective, "MAX_BLOCK", rows * max(num_classes, 7))
    coordinates = Objective(features, labels, num_classes).at(c)
    generator = torch.Generator().manual_seed(0)
    position = torch.randn(coordinates.zero.shape, generator=generator, dtype=torch.float64)
    value, gradient = coordinates.value_and_gradient(position)
    position.requires_grad_()
    weight, bias = coordinates.weights(position)
    entropy = F.cross_entropy(features.double() @ weight.T + bias, labels, reduction="sum")
    penalty = 2 if num_classes == 2 else 1
    expected = c * entropy + penalty / 2 * weight.square().sum()
    assert coordinates.in_full(value) == pytest.approx(expected.item(), rel=1e-12)
    (expected / (c * len(features))).backward()
    torch.testing.assert_close(gradient, position.grad, rtol=1e-10, atol=1e-12)
    back = coordinates.coordinates(weight.detach(), bias.detach())
    torch.testing.assert_close(back, position.detach(), rtol=1e-10, atol=1e-10)


def test_at_the_start_all_directions_curve_alike():
    """Of features that have a scale of their own in every direction, and nearly no penalty."""
    features, labels = problem(3, num=900)
    mixing = torch.randn(7, 7, generator=torch.Generator().manual_seed(1))
    features = features @ mixing @ torch.diag(10.0 ** (torch.arange(-3, 4) / 2))
    coordinates = Objective(features, labels, 3).at(1e9)

    def gradient(flat):
        return coordinates.value_and_gradient(flat.view(3, 8))[1].flatten()

    step = 1e-4
    columns = [gradient(step * row) - gradient(-step * row) for row in torch.eye(24).double()]
    curvature = torch.linalg.eigvalsh(torch.stack(columns) / (2 * step))
    # One direction in three is the same number for all classes, to which nothing is sensitive.
    assert curvature[:8].abs().max() < 1e-6
    torch.testing.assert_close(curvature[8:], torch.ones(16).double(), rtol=1e-3, atol=1e-3)


def test_features_without_extent_in_some_directions_have_coordinates():
    features, labels = problem(3)
    features = torch.cat([features, features, torch.full((60, 2), 1e4)], 1)
    coordinates = Objective(features, labels, 3).at(1e12)
    value, gradient = coordinates.value_and_gradient(coordinates.zero)
    assert gradient.isfinite().all() and value == pytest.approx(torch.tensor(3.0).log().item())
