"""Cached steps over ranks with the losses that a run may be told to train with."""

import pytest
import torch

from fastclip.distributed.groups import LOSS_SCHEDULES
from fastclip.train.run.loss import make_loss
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.step.cached import CachedStep
from tests.support.small_models import SHALLOW, build, inputs

SIZES = (4, 4)
SETTINGS = {
    "queue": {"loss": "queue", "queue_size": 12},
    "dcl": {"loss": "dcl"},
    "infoloob": {"loss": "infoloob"},
    "sogclr": {"loss": "sogclr"},
    "taught": {"distill_model": "teacher"},
    "prefixes": {"matryoshka_dims": (4, 8), "matryoshka_weights": (1.0, 0.5)},
}
BY_NAME = {"sogclr": ("indices",), "taught": ("dist_image_features", "dist_text_features")}


def further(name, number):
    """What a loss is called with by name, of the whole batch of a step."""
    if name == "indices":
        return torch.arange(sum(SIZES)) + 6 * number
    generator = torch.Generator().manual_seed(len(name) + number)
    features = torch.randn(sum(SIZES), 5, dtype=torch.float64, generator=generator)
    return torch.nn.functional.normalize(features, dim=1)


def two_steps(group, loss, schedule="gather"):
    """Gradients and state after the second step; of the whole batch without a group."""
    config = RunConfig(backend="reference", loss_schedule=schedule, **SETTINGS[loss])
    model = build(SHALLOW["vit"]).double().train()
    own = make_loss(config, model, num_samples=20).double()
    own.loss.process_group, own.loss.world_size = group, 1 if group is None else None
    step = CachedStep(model, own, 3)
    for number in range(2):
        model.zero_grad()
        images, texts = inputs(SHALLOW["vit"], sum(SIZES), seed=number)
        batch = {"images": images.double(), "texts": texts}
        batch |= {name: further(name, number) for name in BY_NAME.get(loss, ())}
        if group is not None:
            batch = {name: x.split(SIZES)[group.rank()] for name, x in batch.items()}
        of_all = {"dist_logit_scale": 20.0} if loss == "taught" else {}
        value = step(**batch, **of_all).loss
    return value, {k: p.grad for k, p in model.named_parameters()}, own.state_dict()


@pytest.mark.parametrize("loss", SETTINGS)
def test_ranks_take_the_step_of_the_whole_batch(loss, ranks):
    expected = two_steps(None, loss)
    for schedule in LOSS_SCHEDULES:
        for found in ranks.run(2, two_steps, loss, schedule):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
