""" "auto" takes one backend on all ranks, also where a check fails on one of them."""

import warnings
from pathlib import Path

import pytest
import torch

import fastclip
from fastclip.backends.gpu import own_verdicts
from fastclip.distributed import agreement
from tests.support import fake_gpu


def nan(name, results):
    return (results[0].fill_(float("nan")), *results[1:])


def losses(group, cache, loss, schedule, of_rank_1):
    """Of a first and a second call: values, who computed, and what was warned of."""
    patch, rank = pytest.MonkeyPatch(), group.rank()
    agreement._tell.cache_clear()
    mistake = nan if rank == 1 and of_rank_1 == "wrong" else None
    # Each rank on a machine of its own.
    called = fake_gpu.install(patch, Path(cache, str(rank)), mistake)
    backend = "triton" if rank == 1 and of_rank_1 == "named" else "auto"
    try:
        generator = torch.Generator().manual_seed(rank)
        image, text = (torch.randn(3, 8, generator=generator).requires_grad_() for _ in range(2))
        values = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                options = {"process_group": group, "schedule": schedule, "backend": backend}
                value = loss(image, text, 10.0, normalize=True, **options)
                called.clear()
                value.backward()  # by the kernels of the forward
                values.append(value.item())
        checked = [row.passed for row in own_verdicts.read()]
        return values, list(called), checked, [str(w.message) for w in caught]
    finally:
        patch.undo()
        fake_gpu.new_process()


LOSSES = [(fastclip.clip_loss, "gather"), (fastclip.clip_loss, "ring"),
          (fastclip.siglip_loss, "gather"), (fastclip.siglip_loss, "ring")]  # fmt: skip


@pytest.mark.parametrize("loss, schedule", LOSSES)
def test_ranks_of_which_all_agree_take_their_kernels(ranks, tmp_path, loss, schedule):
    in_one_pass = loss is fastclip.siglip_loss and schedule == "gather"
    for values, called, checked, told in ranks.run(2, losses, str(tmp_path), loss, schedule, ""):
        assert checked == [True] and told == []
        assert (called == []) == in_one_pass
        assert values[0] == values[1]


@pytest.mark.parametrize("loss, schedule", LOSSES)
def test_where_one_rank_fails_all_take_chunked(ranks, tmp_path, loss, schedule):
    results = ranks.run(3, losses, str(tmp_path), loss, schedule, "wrong")
    assert [checked for _, _, checked, _ in results] == [[True], [False], [True]]
    assert len({value for values, *_ in results for value in values}) == 1
    for rank, (_, called, _, told) in enumerate(results):
        assert called == []
        (message,) = told  # once, for two calls
        if rank == 1:
            assert "off by nan" in message and "`fastclip verify`" in message
        else:
            assert "takes 'chunked' on all ranks" in message
            assert "triton, chunked, triton" in message and "`fastclip doctor`" in message


def test_a_named_backend_is_its_ranks_own(ranks, tmp_path):
    results = ranks.run(3, losses, str(tmp_path), fastclip.clip_loss, "gather", "named")
    for rank, (_, called, checked, told) in enumerate(results):
        assert called and told == []
        assert checked == ([] if rank == 1 else [True])
