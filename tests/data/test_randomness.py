import random

import numpy as np
import torch

from fastclip.data.randomness import (
    permutation,
    preserved_generators,
    random_integer,
    seed_generators,
    seeded_generator,
)


def drawn() -> tuple:
    return torch.rand(1).item(), random.random(), np.random.rand()


def test_random_integer_depends_on_every_word_of_its_purpose():
    purposes = [(0,), (1,), (0, 1), (1, 0), (0, "a"), ("0",), (0, "1")]
    assert len({random_integer(2**63, *purpose) for purpose in purposes}) == len(purposes)
    assert random_integer(10**6, 3, "draw", 5) == 677_063  # on every machine and in every version


def test_random_integer_is_uniform():
    counts = np.bincount([random_integer(7, i) for i in range(7000)], minlength=7)
    assert counts.sum() == 7000 and ((counts - 1000) ** 2).sum() / 1000 < 22.5  # chi^2, p = 0.001


def test_permutation_holds_every_number_once_and_differs_by_purpose():
    assert sorted(permutation(100, 0)) == list(range(100)) == sorted(permutation(100, 1))
    assert permutation(100, 0) == permutation(100, 0) != permutation(100, 1)


def test_seeded_generators_differ_in_their_first_numbers():
    firsts = {torch.rand(1, generator=seeded_generator(0, i)).item() for i in range(100)}
    assert len(firsts) == 100


def test_seed_generators_makes_all_three_reproducible():
    with preserved_generators():
        seed_generators(1, 2)
        first = drawn()
        seed_generators(1, 3)
        assert not set(drawn()) & set(first)
        seed_generators(1, 2)
        assert drawn() == first


def test_preserved_generators_go_on_as_if_nothing_had_been():
    with preserved_generators():
        expected = drawn()
    with preserved_generators():
        seed_generators(1)
        drawn()
    assert drawn() == expected
