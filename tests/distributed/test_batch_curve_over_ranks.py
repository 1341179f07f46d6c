"""The curve of a step of several ranks is that of their pairs as one batch."""

import torch
import torch.distributed as dist
from torch import nn

import fastclip
from fastclip.distributed.processes import Processes
from fastclip.train.log.run_log import RunLog
from fastclip.train.run.batch_curves import BatchCurves
from fastclip.train.settings.run_config import RunConfig

RANKS, PAIRS, SCALE = 4, 24, 9.0


def features() -> torch.Tensor:  # (2, N, D)
    found = torch.randn(2, PAIRS, 8, generator=torch.Generator().manual_seed(0))
    return nn.functional.normalize(found.double(), dim=-1)


def curve_of_step(group, directory):
    """What a rank knows after a step, and whether its gradients are those without a curve."""
    loss, scale = fastclip.ClipLoss(), torch.tensor(SCALE)
    curves = BatchCurves(
        RunConfig(batch_curve_every=1), loss, Processes("cpu"), directory, RunLog(None)
    )
    own = features().chunk(RANKS, dim=1)[dist.get_rank()]
    gradients = []
    for step in (0, 1):
        leaves = [x.clone().requires_grad_() for x in own]
        if step == 0:
            value = loss(*leaves, scale)
        else:
            with curves.of_step(1):
                value = loss(*leaves, scale)
        gradients.append(torch.autograd.grad(value, leaves))
    same = all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    return curves.newest(), same


def test_the_first_rank_has_the_curve_of_the_global_batch(ranks, tmp_path):
    (first, *others) = ranks.run(RANKS, curve_of_step, tmp_path)
    truth = fastclip.clip_batch_curve(*features(), SCALE)
    assert first[0]["batch_curve"]["losses"] == truth.losses.tolist()
    assert [found for found, _ in others] == [{}] * (RANKS - 1)
    assert all(same for _, same in (first, *others))
    assert (tmp_path / "batch_curve.png").is_file()
