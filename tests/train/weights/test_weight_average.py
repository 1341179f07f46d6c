"""Averages of the weights that move, whatever the weights are held in."""

import pytest
import torch
from torch import nn

from fastclip.models.precision import set_precision
from fastclip.train.weights.placement import make_average
from tests.support.small_models import SMALL, build


def distance(average, model, starts):
    """How far the average has gone of the way from `starts` to the model's weights: 0 to 1."""
    gone = way = 0.0
    for mean, weight, start in zip(
        average.module.parameters(), model.parameters(), starts, strict=True
    ):
        gone += (mean.double() - start).square().sum().item()
        way += (weight.double() - start).square().sum().item()
    return (gone / way) ** 0.5


@pytest.mark.parametrize("by_shares", [False, True])  # two ways in which torch averages
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "pure_bf16", "pure_fp16"])
def test_average_goes_to_weights_that_stay_where_they_are(precision, by_shares):
    decay, num = 0.95, 60
    model = set_precision(nn.Sequential(nn.Linear(30, 40), nn.BatchNorm1d(40)), precision)
    average = make_average(model, decay, by_shares)
    average.update_parameters(model)
    starts = [p.detach().double() for p in model.parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.03)
    for _ in range(num):
        average.update_parameters(model)
    assert distance(average, model, starts) == pytest.approx(1 - decay**num, abs=1e-3)
    assert {p.dtype for p in average.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["pure_bf16", "pure_fp16"])
def test_running_statistics_are_averaged_in_float32(precision):
    model = set_precision(nn.BatchNorm2d(8), precision)
    average = make_average(model, 0.99, False)
    statistics, mean = model.running_mean, average.module.running_mean
    statistics.fill_(1.0)
    average.update_parameters(model)
    statistics.fill_(1.02)
    for _ in range(100):
        average.update_parameters(model)
    expected = 1 + (statistics.double() - 1) * (1 - 0.99**100)
    torch.testing.assert_close(mean.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "pure_fp16"])
def test_average_loads_into_a_model_of_that_precision(precision):
    model = set_precision(build(SMALL["vit"]), precision)
    average = make_average(model, 0.9, False)
    average.update_parameters(model)
    other = set_precision(build(SMALL["vit"], seed=1), precision)
    other.load_state_dict(average.module.state_dict())
    for one, weight in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, weight)


@pytest.mark.parametrize("by_shares", [False, True])
@pytest.mark.parametrize("decay", [0.9, 0.9995, 0.9999])
def test_integers_are_those_of_the_model(decay, by_shares):
    model = nn.BatchNorm1d(4)
    model.register_buffer("position_ids", torch.arange(3000))
    model.register_buffer("index", torch.arange(256, dtype=torch.uint8))
    model.register_buffer("mask", torch.arange(9) % 2 == 0)
    average = make_average(model, decay, by_shares)
    for _ in range(3):
        model(torch.randn(5, 4))
        average.update_parameters(model)
    mine, theirs = dict(average.module.named_buffers()), dict(model.named_buffers())
    for name in ("position_ids", "index", "mask", "num_batches_tracked"):
        assert torch.equal(mine[name], theirs[name]), name
    assert not torch.equal(mine["running_mean"], theirs["running_mean"])
