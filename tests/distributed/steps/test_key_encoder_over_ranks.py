"""The encoder of a queue's keys over ranks, replicated and sharded: that of one process."""

import pytest
import torch

from fastclip.distributed.processes import Processes
from fastclip.models.tower_precision import TowerPrecision
from fastclip.models.towers.image_config import Moments
from fastclip.train.run.loss import make_loss
from fastclip.train.run.model import RunModel
from fastclip.train.run.stepping import make_stepping
from fastclip.train.settings.run_config import RunConfig
from tests.support.small_models import SHALLOW, build, inputs

RANKS, PAIRS, STEPS = 4, 8, 3


def trained(group, fsdp=False, name="vit"):
    """The losses of some steps and what is stored after each; of the whole batch in one process."""
    num_ranks, rank = (1, 0) if group is None else (RANKS, group.rank())
    config = RunConfig(
        loss="queue", queue_size=12, queue_momentum=0.5, fsdp=fsdp, precision="fp32", warmup=0,
        batch_size=PAIRS // num_ranks, micro_batch_size=1, lr=1e-3, eps=1e-3, backend="reference",
    )  # fmt: skip
    model = build(SHALLOW[name]).train()
    run_model = RunModel(model, None, None, None, 0.5, 0.25)
    stepping = make_stepping(
        config, config.training(STEPS, num_ranks, Moments(0.9, 0.98, 1e-3)), run_model,
        make_loss(config, model), TowerPrecision("fp32", torch.device("cpu")), Processes("cpu"),
    )  # fmt: skip
    losses, stored = [], []
    for number in range(STEPS):
        images, texts = (
            x.chunk(num_ranks)[rank] for x in inputs(SHALLOW[name], PAIRS, seed=number)
        )
        pixels = ((images + 4) * 32).clamp(0, 255).to(torch.uint8)
        pairs = list(stepping.compute.micro_batches(pixels, texts))
        found = stepping.take_step(pairs, number, **stepping.key_encoder(pairs))
        losses.append(found.loss)
        state = stepping.state.state_dict()
        stored.append({name: x.clone() for name, x in state["key_encoder_state_dict"].items()})
    assert found.objection is None
    return losses, stored


@pytest.fixture(scope="module")
def alone():
    return trained(None)


@pytest.mark.parametrize("fsdp", [False, True])
def test_ranks_have_the_keys_and_the_encoder_of_one_process(fsdp, alone, ranks):
    (losses, stored), found = alone, ranks.run(RANKS, trained, fsdp)
    assert len(set(losses)) == STEPS
    for other_losses, other in found:
        assert other_losses == found[0][0] == pytest.approx(losses, rel=1e-4)
        for one, expected, same in zip(other, stored, found[0][1], strict=True):
            torch.testing.assert_close(one, expected, rtol=1e-3, atol=1e-5)
            assert all(torch.equal(x, same[name]) for name, x in one.items())


def refused(group):
    with pytest.raises(ValueError) as error:
        trained(group, name="resnet")
    return str(error.value)


def test_statistics_that_differ_from_rank_to_rank_are_refused(ranks):
    for text in ranks.run(RANKS, refused):
        assert text.startswith("--queue-momentum over several ranks cannot take towers with")
