import weakref

import pytest
import torch
from torch import nn

from fastclip.train.memory.activation_budget import (
    UNLIMITED,
    available_bytes,
    measure_kept,
    parse_budget,
)


@pytest.mark.parametrize(
    "text, bytes_",
    [
        ("20GiB", 20 * 2**30),
        ("512M", 512 * 2**20),
        ("1.5 gb", 1.5 * 2**30),
        ("0", 0),
        ("4096", 4096),
        ("2TiB", 2**41),
        ("7KiB", 7 * 1024),
        (123, 123),
        (0.0, 0),
        ("unlimited", UNLIMITED),
        (UNLIMITED, UNLIMITED),
    ],
)
def test_budget_is_read(text, bytes_):
    assert parse_budget(text) == bytes_


@pytest.mark.parametrize("text", ["lots", "-1", "20 GiB free", "", -5, float("nan"), "1e9"])
def test_what_is_no_budget_raises(text):
    with pytest.raises(ValueError, match="activation_budget must be"):
        parse_budget(text)


def test_kept_bytes_are_what_the_graph_saves():
    linear, x = nn.Linear(100, 50), torch.randn(20, 100, requires_grad=True)

    def forward():
        hidden = linear(x)  # keeps x and the weight: alive anyway
        return (hidden.sigmoid() * 2).sum()  # keeps the sigmoid's result

    value, kept = measure_kept(forward, [x, *linear.parameters()])
    assert kept == 20 * 50 * 4
    value.backward()
    assert linear.weight.grad is not None


def test_a_storage_that_is_saved_twice_counts_once():
    x = torch.randn(1000, requires_grad=True)

    def forward():
        y = x + 1
        return (y * y).sum() + y[:10].square().sum()

    _, kept = measure_kept(forward, [x])
    assert kept == 4000


def test_graph_dies_with_its_result():
    x = torch.randn(1000, requires_grad=True)
    hidden = []

    def forward():
        y = (x * 2).sigmoid()  # saves its own output
        hidden.append(weakref.ref(y))
        return y.sum()

    value, _ = measure_kept(forward, [x])
    del value
    assert hidden[0]() is None


def test_nothing_is_kept_without_a_gradient():
    with torch.no_grad():
        _, kept = measure_kept(lambda: torch.randn(5).requires_grad_().square(), [])
    assert kept == 0


def test_memory_of_this_machine_is_positive_and_less_what_a_step_takes():
    available = available_bytes(torch.device("cpu"))
    assert 2**20 < available < 2**50
    assert available_bytes(torch.device("cpu"), transient=2**60) == 0
