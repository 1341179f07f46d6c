"""Hosts in this process, and in two ranks that are started once."""

import multiprocessing

import pytest
import torch

from fastclip.benchmarks.torchvision import make_importable
from tests.support.ranks import RankPool

make_importable()
multiprocessing.set_forkserver_preload(["tests.hosts.integrations.hosts"])


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory):
    pool = RankPool(2, tmp_path_factory.mktemp("two-ranks"))
    yield pool
    pool.close()


@pytest.fixture(autouse=True)
def hosts_may_do_as_they_like(nan_in_uninitialised_memory):
    """Some of their operators are refused where everything has to be deterministic."""
    torch.set_deterministic_debug_mode("default")
