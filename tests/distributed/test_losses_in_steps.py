"""Cached steps over ranks with the losses that a run may be told to train with."""

import pytest
import torch

from fastclip.train.run.loss import make_loss
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.step.cached import CachedStep
from tests.support.small_models import SMALL, build, inputs

SIZES = (4, 4)
OPTIONS = {"queue": {"queue_size": 12}}


def two_steps(group, loss):
    """Gradients and state after the second step; of the whole batch without a group."""
    config = RunConfig(loss=loss, backend="reference", **OPTIONS.get(loss, {}))
    model = build(SMALL["vit"]).double().train()
    own = make_loss(config, model, num_samples=20).double()
    own.loss.process_group, own.loss.world_size = group, 1 if group is None else None
    step = CachedStep(model, own, 3)
    for number in range(2):
        model.zero_grad()
        images, texts = inputs(SMALL["vit"], sum(SIZES), seed=number)
        batch = [images.double(), texts, torch.arange(sum(SIZES)) + 6 * number]
        if group is not None:
            batch = [x.split(SIZES)[group.rank()] for x in batch]
        of_loss = {"indices": batch[2]} if loss == "sogclr" else {}
        value = step(*batch[:2], **of_loss).loss
    return value, {k: p.grad for k, p in model.named_parameters()}, own.state_dict()


@pytest.mark.parametrize("loss", ["queue", "dcl", "infoloob", "sogclr"])
def test_ranks_take_the_step_of_the_whole_batch(loss, ranks):
    expected = two_steps(None, loss)
    for found in ranks.run(2, two_steps, loss):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
