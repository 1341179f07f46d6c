"""Batches within a budget of tokens: every image once, in an order of the seed and the epoch."""

import pytest

from fastclip.data.loading.token_budget import Padding, TokenBudgetSampler
from fastclip.data.randomness import random_integer

LENGTHS = [1 + random_integer(256, "length", i) for i in range(500)]
BUDGET = 2048


def cost(batch):
    return len(batch) * max(LENGTHS[i] for i in batch)


@pytest.mark.parametrize("settings", [{}, {"shuffle": False}, {"pool_size": 50}], ids=str)
def test_every_image_is_in_one_batch_within_the_budget(settings):
    sampler = TokenBudgetSampler(LENGTHS, BUDGET, **settings)
    batches = list(sampler)
    assert len(sampler) == len(batches)
    assert sorted(i for batch in batches for i in batch) == list(range(500))
    assert all(cost(batch) <= BUDGET for batch in batches)
    # Images of one length fill it, but for the end of each pool.
    full = [cost(batch) + max(LENGTHS[i] for i in batch) > BUDGET for batch in batches]
    assert full.count(False) <= 500 / sampler.pool_size + 1


def test_batches_depend_on_the_seed_and_the_epoch_alone():
    def batches(seed, epoch):
        sampler = TokenBudgetSampler(LENGTHS, BUDGET, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batches(0, 3) == batches(0, 3)
    assert sorted(map(sorted, batches(0, 3))) != sorted(map(sorted, batches(0, 4)))
    assert batches(0, 3) != batches(1, 3)
    sampler = TokenBudgetSampler(LENGTHS, BUDGET)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) == batches(0, 1) != first == batches(0, 0)


def test_padding_is_counted_and_less_in_larger_pools():
    fractions = []
    for settings in ({"shuffle": False}, {"pool_size": 100}, {"pool_size": 10}):
        sampler = TokenBudgetSampler(LENGTHS, BUDGET, **settings)
        padding = sampler.padding()
        assert padding.num_tokens == sum(map(cost, sampler))
        assert padding[:3] == (500, len(sampler), sum(LENGTHS))
        fractions.append(padding.fraction)
    assert 0 < fractions[0] < 0.05 < fractions[1] < fractions[2]
    few = TokenBudgetSampler([3, 4, 4], 8, shuffle=False)
    assert list(few) == [[1, 2], [0]] and few.padding() == Padding(3, 2, 11, 11)
    padded = TokenBudgetSampler([3, 1, 4], 16, shuffle=False).padding()
    assert padded.report() == (
        "3 images in 1 batches have 8 patches; with padding they are 12 tokens, "
        "33.3% of them padding"
    )
    assert TokenBudgetSampler([], 8).padding().fraction == 0


def test_ranks_share_the_batches_of_one_process():
    whole = list(TokenBudgetSampler(LENGTHS, BUDGET, seed=5))
    ranks = [TokenBudgetSampler(LENGTHS, BUDGET, seed=5, rank=r, world_size=3) for r in range(3)]
    assert [list(rank) for rank in ranks] == [whole[r::3] for r in range(3)]
    assert [len(rank) for rank in ranks] == [len(whole[r::3]) for r in range(3)]


def test_most_images_of_a_batch_can_be_said():
    batches = list(TokenBudgetSampler([1] * 10, 1000, max_images=4, shuffle=False))
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"num_patches": [4, 9]},
            "must be from 1 to max_tokens = 8, got 9 for image 1",
        ),
        ({"num_patches": [0]}, "got 0 for image 0"),
        ({"pool_size": 0}, "pool_size must be at least 1, got 0"),
        ({"max_images": 0}, "max_images must be at least 1, got 0"),
        ({"world_size": 0}, "world_size must be at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, "rank must be from 0 to 1, got 2"),
    ],
    ids=str,
)
def test_settings_that_are_not_possible_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        TokenBudgetSampler(**{"num_patches": [1], "max_tokens": 8} | settings)
