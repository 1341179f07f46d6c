"""A step whose loss or gradient is not finite leaves everything as it was, and is counted."""

import copy
import math

import pytest
import torch
from torch.utils._pytree import tree_leaves

from fastclip import ClipLoss, QueueLoss
from fastclip.models.config import ClipConfig, ResNetConfig, TextConfig, VisionConfig
from fastclip.train.checkpoints.trained_state import TrainedState
from fastclip.train.run.pair_loss import PairLoss, of_queues
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.gradient_norm import gradient_norm, limit_norm
from fastclip.train.step.optimizer import make_optimizer
from fastclip.train.step.optimizer_step import OptimizerStep
from fastclip.train.weights.placement import make_average
from tests.support.small_models import build, inputs

TEXT = TextConfig(context_length=6, vocab_size=20, width=16, heads=2, layers=1)
VIT = ClipConfig(8, VisionConfig((4, 4), patch_size=2, width=16, layers=1, head_width=8), TEXT)
RESNET = ClipConfig(8, ResNetConfig(32, (1, 1, 1, 1), width=4, head_width=16), TEXT)
CONFIG = StepConfig(batch_size=6, steps=9, learning_rate=1e-2)
SKIP = {"on_nonfinite": "skip"}


class LossWithAState(ClipLoss):
    """CLIP's loss times a weight, that counts its calls."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.register_buffer("num_calls", torch.zeros(()))
        self.register_buffer("last", None)

    def forward(self, image_features, text_features, logit_scale):
        self.num_calls += 1
        self.last = text_features.detach()
        return self.weight * super().forward(image_features, text_features, logit_scale)


def make(config=VIT, scaler=None, loss=None, **settings):
    """A step, its state, and micro-batches for it."""
    model, loss = build(config).train(), loss or ClipLoss()
    training = StepConfig(**{**CONFIG.to_dict(), **settings})
    average = make_average(model, 0.5, False)
    optimizer = make_optimizer(model, training, loss=loss)
    compute = CachedStep(model, loss, 3, scaler=scaler)
    take_step = OptimizerStep(compute, optimizer, training, average)
    state = TrainedState(model, optimizer, scaler, average, counts=take_step.counts, loss=loss)
    return take_step, state, list(compute.micro_batches(*inputs(config, 6)))


def poison(take_step, *names, value=math.nan):
    """Put `value` into the gradients of parameters, until it is removed; the loss stays finite."""
    parameters = dict(take_step.compute.model.named_parameters())
    hooks = [parameters[name].register_hook(lambda g: g.fill_(value)) for name in names]
    return lambda: [hook.remove() for hook in hooks]


def trained(state):
    """What a step changes, but for the counts, the rate that it was given and the scale."""
    content = copy.deepcopy(state.state_dict())
    content["optimizer"] = content["optimizer"]["state"]
    return {name: content[name] for name in content if name not in ("steps", "scaler")}


def assert_same(one, other):
    for mine, theirs in zip(tree_leaves(one), tree_leaves(other), strict=True):
        assert torch.equal(torch.as_tensor(mine), torch.as_tensor(theirs))


def bad_batches(batches):
    return [batches[0], (batches[1][0] * math.nan, batches[1][1])]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gradient_that_is_not_finite_stops_and_changes_nothing(value):
    take_step, state, batches = make(grad_clip_norm=1.0)
    take_step(batches, 0)
    before = trained(state)
    poison(take_step, "visual.proj", "logit_scale", "ln_final.weight", value=value)
    with pytest.raises(FloatingPointError) as raised:
        take_step(batches, 1)
    assert_same(trained(state), before)
    for part in (
        "the gradient of step 2 is not finite", "the image tower: visual.proj;",
        "the text tower: ln_final.weight", "the scale and bias: logit_scale", "--on-nonfinite skip",
    ):  # fmt: skip
        assert part in str(raised.value)


@pytest.mark.parametrize("config, what", [(VIT, "gradient"), (RESNET, "loss")])
def test_skipped_step_is_as_if_it_had_not_been(config, what):
    """Statistics of batch normalisation, which a forward brings up to date, included."""
    states = []
    for is_bad in (False, True):
        take_step, state, batches = make(config, **SKIP)
        assert take_step(batches, 0).objection is None
        if is_bad:
            undo = poison(take_step, "visual.proj") if what == "gradient" else lambda: None
            outcome = take_step(batches if what == "gradient" else bad_batches(batches), 1)
            assert f"the {what} of step 2 is" in outcome.objection
            assert math.isfinite(outcome.loss) == (what == "gradient")
            undo()
        take_step(batches, 2)
        states.append(trained(state))
    assert_same(*states)
    assert state.average.n_averaged == 2
    assert take_step.counts.summary() == "2 steps taken, 1 left out (1 not finite)"


def test_loss_with_a_state_is_as_before_a_step_that_is_left_out_and_is_named():
    take_step, state, batches = make(loss=LossWithAState(), **SKIP)
    loss = state.loss
    undo = loss.weight.register_hook(lambda gradient: gradient * math.nan)
    with torch.no_grad():
        loss.weight.fill_(math.nan)
    told = take_step(batches, 0).objection
    assert "the loss of step 1 is nan" in told
    assert "the weights before it are not finite, in the loss: loss.weight" in told
    assert loss.num_calls == 0 and loss.last is None and loss.weight.grad is None
    with torch.no_grad():
        loss.weight.fill_(1.0)
    undo.remove()
    assert take_step(batches, 1).objection is None
    assert loss.num_calls == 1 and loss.last is not None and loss.weight != 1


def test_queue_and_its_cursor_are_as_before_a_step_that_is_left_out():
    queue = QueueLoss(VIT.embed_dim, 16, symmetric=True, in_batch=True)
    take_step, _, batches = make(loss=PairLoss(queue, of_queues), **SKIP)
    take_step(batches, 0)
    before = copy.deepcopy(queue.state_dict())
    assert take_step(bad_batches(batches), 1).objection is not None
    assert_same(queue.state_dict(), before)
    take_step(batches, 2)
    assert queue.queue.cursor != before["queue._extra_state"][0]


def test_gradient_of_a_loss_is_in_the_norm_and_in_its_limit():
    gradients = []
    for limit in (None, 1e-3):
        take_step, state, batches = make(loss=LossWithAState(), grad_clip_norm=limit)
        outcome = take_step(batches, 0)
        of_loss = state.loss.weight.grad
        assert outcome.gradient_norm > of_loss.abs()
        gradients.append(of_loss)
    torch.testing.assert_close(gradients[1], gradients[0] * 1e-3 / outcome.gradient_norm)


def test_steps_that_are_skipped_in_a_row_are_bounded_and_the_count_survives():
    take_step, state, batches = make(**SKIP, max_skipped_steps=2)
    for number, is_bad in enumerate([True, True, False, True, True]):
        outcome = take_step(bad_batches(batches) if is_bad else batches, number)
        assert (outcome.objection is not None) == is_bad
    stored = state.state_dict()
    take_step, state, _ = make(**SKIP, max_skipped_steps=2)
    state.load_state_dict(stored)
    with pytest.raises(FloatingPointError, match=r"3 steps in a row .* --max-skipped-steps 2"):
        take_step(bad_batches(batches), 5)
    assert take_step.counts.totals() == {"taken": 1, "skipped": 5, "overflowed": 0}


def test_checkpoint_without_counts_took_all_its_steps():
    _, state, _ = make()
    content = {**state.state_dict(), "global_step": 7}
    del content["steps"]
    state.load_state_dict(content)
    assert state.counts.summary() == "7 steps taken" and state.counts.taken_in_epoch == 7


def test_overflow_of_float16_is_left_out_until_the_scale_is_one():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    take_step, state, batches = make(scaler=scaler)
    before = trained(state)
    poison(take_step, "visual.proj")
    outcome = take_step(batches, 0)
    assert "step 1 overflows float16 at a loss scale of 2" in outcome.objection
    assert scaler.get_scale() == 1
    with pytest.raises(FloatingPointError, match=r"visual\.proj.* has fallen to 1, .*amp_bf16"):
        take_step(batches, 1)
    assert_same(trained(state), before)
    assert state.average.n_averaged == 0
    assert take_step.counts.totals() == {"taken": 0, "skipped": 0, "overflowed": 2}


def test_loss_that_is_not_finite_leaves_its_scale():
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    take_step, _, batches = make(scaler=scaler, **SKIP)
    assert "the loss of step 1 is nan" in take_step(bad_batches(batches), 0).objection
    assert scaler.get_scale() == 8
    assert take_step(batches, 1).objection is None


def test_gradient_whose_squares_overflow_is_not_finite():
    """AdamW would keep the square, and never move the weight again."""
    take_step, _, batches = make(**SKIP, max_skipped_steps=1)
    poison(take_step, "visual.proj", value=1e30)
    assert "squares add up to more than float32" in take_step(batches, 0).objection


def test_weights_that_were_not_finite_before_are_named():
    take_step, _, batches = make()
    with torch.no_grad():
        take_step.compute.model.visual.proj[0, 0] = math.inf
    with pytest.raises(FloatingPointError, match=r"weights before it .* tower: visual\.proj"):
        take_step(batches, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_norm_is_of_all_gradients_and_limited(dtype):
    gradients = [torch.full((3, 5), 300.0, dtype=dtype), torch.full((), 40_000.0, dtype=dtype)]
    expected = torch.cat([g.double().flatten() for g in gradients]).norm()
    norm = gradient_norm([*gradients, torch.empty(0, dtype=dtype)])
    assert norm.dtype == torch.float32 and norm.item() == pytest.approx(expected.item(), rel=1e-6)
    limit_norm(gradients, norm.item(), 2.0)
    assert gradient_norm(gradients).item() == pytest.approx(2.0, rel=1e-2)
    limit_norm(gradients, 2.0, 5.0)
    assert gradient_norm(gradients).item() == pytest.approx(2.0, rel=1e-2)
    assert gradient_norm([]).item() == 0
