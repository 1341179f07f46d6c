"""No loss of the family holds N x N or K x N scores: counted where they would be 144 MiB."""

import pytest
import torch

from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.family.losses import LOSSES, providers_of
from fastclip.benchmarks.step import Step
from tests.support.allocations import MIB, allocations

N, D = 6144, 8


@pytest.mark.parametrize("name", LOSSES)
def test_no_allocation_has_the_size_of_all_scores(name):
    ours, *_ = providers_of(name)
    largest, peak = allocations(Step(ours, Case(N, D, torch.float32, 14.3)))
    # As much may be kept by default: all scores of 4,096 pairs.
    assert largest <= 64 * MIB
    assert peak <= 96 * MIB
