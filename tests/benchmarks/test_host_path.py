"""What a step of the CLIP loss on `cuda` costs the host, with kernels that are launched and not
run."""

import importlib.util
from collections import Counter

import pytest
import torch

from fastclip.backends.cuda.variants import VARIANTS, chosen_variant
from fastclip.benchmarks import host_path
from fastclip.benchmarks.host_path import OURS, THEIRS, TINY, idle_kernels, launches, step
from tests.support.emulator import build

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="about the emulator")

needs_open_clip = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="needs open_clip"
)


@pytest.fixture
def num_launched():
    with idle_kernels(build()) as num_launched:
        yield num_launched


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("normalize, expected", [(True, 11), (False, 12)])
def test_launches_of_a_step_at_2048(num_launched, variant, normalize, expected):
    with chosen_variant(variant):
        call = step(OURS, 2048, 512, normalize, torch.bfloat16)
        assert len(launches(call, num_launched)) == expected


def test_operators_of_torch_are_counted_without_views_and_allocations(num_launched):
    def call():
        x = torch.empty(4, 3).fill_(1.0)
        return (x.T @ x.view(4, 3)).detach()[0].sum(), torch.empty(0).zero_()

    assert Counter(launches(call, num_launched)) == {"fill_": 1, "mm": 1, "sum": 1}


def test_larger_batches_and_losses_of_pairs_go_the_general_way(num_launched):
    """Its launches, of which a batch that is one block has the fewest."""
    call = step(OURS, 8448, 64, True, torch.bfloat16)
    assert len(launches(call, num_launched)) > 30


@needs_open_clip
def test_the_size_of_a_batch_changes_no_launch_of_open_clip(num_launched):
    small, large = (step(THEIRS, N, TINY, True, torch.bfloat16) for N in (TINY, 64))
    assert launches(small, num_launched) == launches(large, num_launched)


@needs_open_clip
def test_the_command_prints_launches_and_times(monkeypatch, capsys):
    monkeypatch.setattr(host_path, "ROUNDS", 1)
    monkeypatch.setattr(host_path, "STEPS", 2)
    threads = torch.get_num_threads()
    try:
        host_path.main([str(build()), "--n", "64", "--d", "8", "--normalize"])
    finally:
        torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fastclip/cuda: ") and lines[1].startswith("open_clip: 66 launches")
    assert lines[2].startswith("host time of a step: ")
