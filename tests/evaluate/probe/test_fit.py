"""Fits of a probe: scikit-learn's minimum, from any start."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from fastclip.data.digits.images import load_digits
from fastclip.evaluate.probe.fit import PRECISION, fit
from fastclip.evaluate.probe.objective import Objective


@pytest.fixture(scope="module")
def digits():
    """120 digits by unit features: 20 random projections."""
    images, labels = (values[:120] for values in load_digits())
    projection = torch.randn(64, 20, generator=torch.Generator().manual_seed(0))
    return F.normalize(images.flatten(1).float() / 255 @ projection, dim=1), labels


def sklearn(features, labels, c):
    """The objective at its minimum, with one row of weights per class or one in all."""
    model = LogisticRegression(C=c, tol=1e-10, max_iter=10_000)
    model.fit(features.double().numpy(), labels.numpy())
    weight, bias = torch.tensor(model.coef_), torch.tensor(model.intercept_)
    logits = features.double() @ weight.T + bias
    if len(weight) == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    entropy = F.cross_entropy(logits, labels, reduction="sum").item()
    return c * entropy + weight.square().sum().item() / 2, weight, bias


@pytest.mark.parametrize("num_classes, c", [(10, 1e-5), (10, 0.3), (10, 30.0), (2, 0.3), (2, 30.0)])
def test_the_minimum_is_scikit_learns(digits, num_classes, c):
    features, labels = digits
    is_in = labels < num_classes
    features, labels = features[is_in], labels[is_in]
    expected, weight, bias = sklearn(features, labels, c)
    found = fit(Objective(features, labels, num_classes), c, 1000, PRECISION)
    assert found.is_converged and found.change <= PRECISION
    assert found.objective == pytest.approx(expected, rel=1e-6)
    assert found.objective <= expected * (1 + 1e-8)
    if num_classes == 2:
        torch.testing.assert_close(found.weight[1] - found.weight[0], weight[0], rtol=0, atol=1e-3)
        torch.testing.assert_close((found.bias[1] - found.bias[0])[None], bias, rtol=0, atol=1e-3)
    else:
        torch.testing.assert_close(found.weight, weight, rtol=0, atol=1e-3 * weight.abs().max())


def test_a_penalty_that_is_wrong_by_a_factor_would_be_seen(digits):
    found = fit(Objective(*digits, 10), 0.3, 1000, PRECISION)
    other = fit(Objective(*digits, 10), 0.3001, 1000, PRECISION)
    assert abs(found.objective / other.objective - 1) > 1e-5


@pytest.mark.parametrize("c", [0.1, 1e6])
def test_a_warm_start_is_as_exact_as_a_cold_one_and_takes_fewer_steps(digits, c):
    """At 1e6 the classes are told apart, and the gradient is tiny long before the minimum."""
    objective = Objective(*digits, 10)
    near = fit(objective, c / 1.5, 1000, PRECISION)
    cold, warm = (fit(objective, c, 1000, PRECISION, start) for start in (None, near))
    assert cold.is_converged and warm.is_converged
    assert warm.objective == pytest.approx(cold.objective, rel=1e-6)
    assert warm.iterations < cold.iterations


def test_a_bound_of_the_gradient_alone_would_end_far_from_the_minimum(digits):
    """What `fit.py` says of large C: the bound has to be tightened until nothing changes."""
    objective = Objective(*digits, 10)
    exact = fit(objective, 1e6, 1000, PRECISION)
    coarse = fit(objective, 1e6, 1000, 1e300)
    assert coarse.gradient < 1e-6 and coarse.objective > 1.0001 * exact.objective
    assert coarse.change > PRECISION >= exact.change


def test_a_line_search_that_finds_no_way_down_is_not_at_the_minimum(digits):
    """Of large features and C, rounding hides it: the last step changed nothing."""
    features, labels = digits
    found = fit(Objective(features * 1e4, labels, 10), 1e10, 1000, PRECISION)
    assert found.iterations < 1000 and not found.is_converged
    assert found.change > PRECISION and found.gradient > 0


def test_it_is_said_when_steps_run_out(digits):
    found = fit(Objective(*digits, 10), 30.0, 5, PRECISION)
    assert found.iterations == 5 and not found.is_converged


def test_classes_that_nothing_tells_apart_are_at_the_minimum_at_once():
    found = fit(Objective(torch.ones(6, 3), torch.arange(6) % 3, 3), 1.0, 100, PRECISION)
    assert found.is_converged and found.weight.abs().max() == 0
    assert found.objective == pytest.approx(6 * torch.tensor(3.0).log().item())
