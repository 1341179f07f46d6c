"""The cost of a call as the documentation states it, counted from the launches it would make."""

import pytest
import torch

from fastclip.benchmarks.compilers import cost
from fastclip.benchmarks.compilers.cost import clip_costs, cost_of, siglip_cost
from fastclip.rectangle import COLUMNS, ROWS

MIB = 1 << 20
N, D = 8192, 768


def units(of, factor=1.0):
    return pytest.approx(factor * of, rel=0.03)  # tiles are padded


def test_forward_is_one_product_and_backward_three():
    forward, backward = clip_costs(N, D, torch.bfloat16)
    assert forward.units(N, N, D) == units(1)
    assert backward.units(N, N, D) == units(3)


def test_a_frozen_side_saves_a_product():
    assert clip_costs(N, D, torch.bfloat16, wants=ROWS)[1].units(N, N, D) == units(2)
    assert clip_costs(N, D, torch.bfloat16, wants=COLUMNS)[1].units(N, N, D) == units(2)


def test_kept_logits_save_a_product_for_four_bytes_each():
    forward, backward = clip_costs(N, D, torch.bfloat16)
    keeping, from_kept = clip_costs(N, D, torch.bfloat16, kept_rows=N)
    assert from_kept.units(N, N, D) == units(2)
    assert keeping.num_bytes - forward.num_bytes == pytest.approx(2 * N * N, rel=0.01)
    assert from_kept.num_bytes - backward.num_bytes < 2 * N * N


def test_siglip_is_three_products():
    assert siglip_cost(N, D, torch.bfloat16).units(N, N, D) == units(3)


def test_float32_grade_products_are_three_times_as_many():
    forward, backward = clip_costs(N, D, torch.float32)
    assert forward.units(N, N, D) == units(3) and backward.units(N, N, D) == units(9)


@pytest.mark.parametrize("D", [512, 768, 1024])
def test_memory_at_32768_and_131072(D):
    """Beyond inputs and gradients; the limits are those that the GPU will be held to."""
    for N, limit in ((32_768, 256 * MIB), (131_072, 2048 * MIB)):
        forward, backward = clip_costs(N, D, torch.bfloat16)
        assert 6 * N * D < backward.peak_bytes <= limit
        assert 4 * N * D < forward.peak_bytes <= limit


def test_a_million_pairs_take_linear_memory():
    _, backward = clip_costs(1 << 20, 1024, torch.bfloat16)
    assert backward.peak_bytes < 7 * (1 << 30)
    assert backward.launches < 20_000


def test_the_count_of_memory_sees_what_lives_together():
    def call():
        first = torch.empty(100, device="meta")
        second = torch.empty(50, device="meta")
        del first
        third = torch.empty(20, device="meta")
        return third, second.sum()

    # 100 and 50 live together; what is returned, the 20 and a scalar, does not count.
    assert cost_of(call).peak_bytes == 4 * 150 - 4 * 21


def test_the_command_prints_the_table(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["cost", "--n", "1024", "--d", "64"])
    cost.main()
    table = capsys.readouterr().out
    assert "| clip, forward | 1.00 |" in table and "| siglip" in table
