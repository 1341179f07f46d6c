"""Draws of groups: against formulas, and where the groups' answers depend on each other."""

import math

import numpy as np
import pytest
import torch

from fastclip.evaluate.scores import bootstrap
from fastclip.evaluate.scores.bootstrap import bootstrap_rates
from fastclip.evaluate.scores.rate import wilson


def width(interval):
    return interval.high - interval.low


def test_groups_of_one_answer_have_the_width_of_the_normal_interval():
    hits = (torch.arange(2000)[:, None] < torch.tensor([600, 1900])).long()
    found = bootstrap_rates(hits, torch.ones_like(hits), 20_000)
    for rate, interval in zip((0.3, 0.95), found, strict=True):
        expected = 2 * 1.96 * math.sqrt(rate * (1 - rate) / 2000)
        assert width(interval) == pytest.approx(expected, rel=0.05)
        assert interval.low < rate < interval.high


def test_answers_that_agree_within_groups_count_as_one():
    """Five captions that are all found or all missed say as much as one: sqrt(5) times wider."""
    hits = 5 * (torch.arange(1000)[:, None] < 400).long()
    (found,) = bootstrap_rates(hits, torch.full_like(hits, 5))
    assert width(found) / width(wilson(2000, 5000)) == pytest.approx(math.sqrt(5), rel=0.1)
    assert width(found) == pytest.approx(width(wilson(400, 1000)), rel=0.1)


def test_draws_that_all_agree_are_not_taken_for_certainty():
    """All found, none, one of two each: as wide as Wilson's, of an answer for each group."""
    hits = torch.tensor([[5, 0, 1, 0]] * 5)
    answers = torch.tensor([[5, 5, 2, 3]] * 4 + [[5, 5, 2, 0]])
    every, none, half, of_four = bootstrap_rates(hits, answers)
    assert every == wilson(5, 5) and none == wilson(0, 5) and of_four == wilson(0, 4)
    assert half.low + half.high == pytest.approx(1)
    assert wilson(2, 5).low < half.low < wilson(3, 5).low


def test_draws_of_kinds_are_draws_of_groups():
    generator = torch.Generator().manual_seed(0)
    answers = torch.randint(1, 6, (40, 1), generator=generator)
    hits = (answers * torch.rand(40, 1, generator=generator)).round().long()
    (found,) = bootstrap_rates(hits, answers, 40_000)
    rows = np.random.default_rng(1).integers(40, size=(40_000, 40))
    drawn = hits.numpy()[rows, 0].sum(1) / answers.numpy()[rows, 0].sum(1)
    assert found == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.006)


def test_seeds_decide_and_blocks_do_not(monkeypatch):
    hits = (torch.arange(90)[:, None] % 7 < 3).long()
    first = bootstrap_rates(hits, torch.ones_like(hits))
    assert first == bootstrap_rates(hits, torch.ones_like(hits))
    assert first != bootstrap_rates(hits, torch.ones_like(hits), resamples=500, seed=1)
    monkeypatch.setattr(bootstrap, "MAX_COUNTS", 7)
    assert first == bootstrap_rates(hits, torch.ones_like(hits))
