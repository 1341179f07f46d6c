"""Random numbers without a state: each is a function of what it is for.

A generator's state would have to be saved, and would say at which draw it stands only to those who
have counted. A hash of the seed and the purpose gives the same number to whoever asks, in whatever
order, in whichever process.
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
    """Return a generator on the CPU. Of a seed, it uses no more than the lowest 32 bits."""
    return torch.Generator().manual_seed(random_integer(2**32, *purpose))


def seed_generators(*purpose: int | str) -> None:
    """Seed what transforms draw from: the global generators of torch (CPU), Python and numpy."""
    # Not torch.manual_seed, which also seeds accelerators and may start them.
    torch.default_generator.manual_seed(random_integer(2**32, *purpose))
    random.seed(random_integer(2**63, *purpose, "python"))
    np.random.seed(random_integer(2**32, *purpose, "numpy"))


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Leave those generators as they were found: in the main process they are the trainer's."""
    states = torch.default_generator.get_state(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
