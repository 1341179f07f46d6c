import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fastclip import ClipLoss
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.optimizer import make_optimizer
from fastclip.train.step.optimizer_step import OptimizerStep
from fastclip.train.step.schedule import learning_rate_at
from tests.support.small_models import SHALLOW, build, inputs

CONFIG = StepConfig(batch_size=6, steps=9, warmup_steps=3, learning_rate=1e-2)
DECAY = 0.7


def make(name="vit", **settings):
    model = build(SHALLOW[name]).train()
    average = AveragedModel(
        model, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True
    )  # fmt: skip
    compute = CachedStep(model, ClipLoss(), 3, **settings)
    take_step = OptimizerStep(compute, make_optimizer(model, CONFIG), CONFIG, average)
    return take_step, list(compute.micro_batches(*inputs(SHALLOW[name], 6)))


@pytest.mark.parametrize("name", ["vit", "resnet"])  # the latter has buffers, some of them integers
def test_average_is_that_of_the_weights_after_every_step(name):
    take_step, batches = make(name)
    model, expected = take_step.compute.model, {}
    for number in range(4):
        take_step(batches, number)
        for key, value in model.state_dict().items():
            if key not in expected or not value.is_floating_point():
                expected[key] = value.clone()
            else:
                expected[key] = DECAY * expected[key] + (1 - DECAY) * value
    found = take_step.average.module.state_dict()
    for key, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-7)
    weight = "visual.attnpool.q_proj.weight" if name == "resnet" else "visual.proj"
    assert not torch.equal(found[weight], model.state_dict()[weight])


def test_rate_is_that_of_the_steps_number():
    take_step, batches = make()
    for number in (0, 5, 2):
        take_step(batches, number)
        rates = {group["lr"] for group in take_step.optimizer.param_groups}
        assert rates == {learning_rate_at(number, CONFIG)}


def test_loss_that_is_not_finite_raises_and_changes_nothing():
    take_step, batches = make()
    model = take_step.compute.model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batches[1] = (batches[1][0] * float("nan"), batches[1][1])
    with pytest.raises(FloatingPointError, match="the loss of step 5 is nan"):
        take_step(batches, 4)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_scaled_gradients_are_unscaled_before_they_are_clipped():
    """A step with a scaler is the step without it, but for float32's rounding of the scale."""
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        torch.manual_seed(0)
        take_step, batches = make(scaler=scaler)
        take_step.config = StepConfig(**{**CONFIG.to_dict(), "grad_clip_norm": 1e-3})
        take_step(batches, 4)
        results.append(take_step.compute.model.state_dict())
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("direction, bound", [(-1, 100.0), (1, 1.0)])
def test_logit_scale_stays_within_its_bounds(direction, bound):
    class Pull(torch.nn.Module):
        """A loss that wants nothing but another scale."""

        def forward(self, image_features, text_features, logit_scale):
            return direction * logit_scale + 0.0 * (image_features + text_features).sum()

    config = StepConfig(batch_size=6, steps=5, learning_rate=5.0, weight_decay=0.0)
    model = build(SHALLOW["vit"]).train()
    compute = CachedStep(model, Pull(), 6)
    take_step = OptimizerStep(compute, make_optimizer(model, config), config)
    for number in range(5):
        take_step(list(compute.micro_batches(*inputs(SHALLOW["vit"], 6))), number)
    assert model.logit_scale.exp().item() == pytest.approx(bound, rel=1e-5)
