"""Random numbers without a state: each number is a function of its purpose.

The state of a generator would have to be saved, and it does not say how many draws were made. A
hash of the seed and the purpose gives the same number in any order and in any process.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def random_integer(below: int, *purpose: int | str) -> int:
    """Return an integer in [0, below), for `below` up to 2^63; the bias is less than 2^-32."""
    digest = hashlib.blake2b(repr(purpose).encode(), digest_size=12).digest()
    return int.from_bytes(digest, "big") % below


def permutation(length: int, *purpose: int | str) -> list[int]:
    """Return the numbers below `length` in a random order."""
    return torch.randperm(length, generator=seeded_generator(*purpose)).tolist()


def seeded_generator(*purpose: int | str) -> torch.Generator:
    """Return a generator on the CPU; its seed has 32 bits."""
    return torch.Generator().manual_seed(random_integer(2**32, *purpose))


def seed_generators(*purpose: int | str) -> None:
    """Seed the generators that transforms use: the global ones of torch (CPU), Python, numpy."""
    # Not torch.manual_seed, which also seeds accelerators and may start them.
    torch.default_generator.manual_seed(random_integer(2**32, *purpose))
    random.seed(random_integer(2**63, *purpose, "python"))
    np.random.seed(random_integer(2**32, *purpose, "numpy"))


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Restore the global generators afterwards: in the main process the trainer uses them."""
    states = torch.default_generator.get_state(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
