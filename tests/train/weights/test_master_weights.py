"""Steps below the rounding of 16-bit weights add up in their float32 masters."""

import copy

import pytest
import torch

from fastclip import ClipLoss
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.models.precision import set_precision
from fastclip.models.tower_precision import TowerPrecision
from fastclip.train.checkpoints.trained_state import TrainedState
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.optimizer import make_optimizer, parameter_groups
from fastclip.train.step.optimizer_step import OptimizerStep
from fastclip.train.weights.masters import NO_MASTERS, MasterWeights
from fastclip.train.weights.placement import make_average
from tests.support.small_models import build, inputs

TINY = ClipConfig(
    8, VisionConfig((4, 4), patch_size=2, width=16, layers=1, head_width=8),
    TextConfig(context_length=6, vocab_size=20, width=16, heads=2, layers=1),
)  # fmt: skip
CONFIG = StepConfig(batch_size=6, steps=100, learning_rate=1e-5, lr_scheduler="const")
CPU = torch.device("cpu")
MATRIX = "visual.transformer.resblocks.0.mlp.c_fc.weight"


def make(precision, seed=0, has_masters=True, decay=None, scaler=None, **settings):
    """A step, its state, and micro-batches for it."""
    dtype = TowerPrecision(precision, CPU).input_dtype
    model = set_precision(build(TINY, seed), precision).train()
    masters = MasterWeights(model.named_parameters()) if has_masters else NO_MASTERS
    config = StepConfig(**{**CONFIG.to_dict(), **settings})
    optimizer = make_optimizer(model, config, masters)
    average = make_average(model, decay, False)
    compute = CachedStep(model, ClipLoss(), 3, scaler=scaler)
    take_step = OptimizerStep(compute, optimizer, config, average, masters)
    images, tokens = inputs(TINY, 6)
    state = TrainedState(model, optimizer, scaler, average, masters)
    return take_step, state, list(compute.micro_batches(images.to(dtype), tokens))


def weights_of(state):
    return {name: value.double() for name, value in state.state_dict()["state_dict"].items()}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_small_steps_move_all_weights_as_far_as_in_float32(precision):
    """Six steps at 1e-5; without masters, most entries of a bfloat16 matrix never change."""
    moved = {}
    for name, has_masters in ((precision, True), ("pure_bf16", False), ("fp32", False)):
        take_step, state, batches = make(name, has_masters=has_masters)
        before = weights_of(state)
        for number in range(6):
            take_step(batches, number)
        moved[name] = weights_of(state)[MATRIX] - before[MATRIX]
    share = {name: (change != 0).double().mean().item() for name, change in moved.items()}
    assert share["pure_bf16"] < 0.2 < 0.99 < share[precision]
    # AdamW's first steps have the size of the rate, whatever the gradient: the signs may differ.
    norms = {name: change.norm().item() for name, change in moved.items()}
    assert norms[precision] == pytest.approx(norms["fp32"], rel=0.15)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_are_their_rounded_masters_after_every_step(precision):
    take_step, state, batches = make(precision, learning_rate=1e-2)
    model, masters = state.model, take_step.masters
    mastered = {n for n, p in model.named_parameters() if p.dtype != torch.float32}
    assert MATRIX in mastered and "logit_scale" not in mastered
    assert set(masters.state_dict()) == mastered
    before = model.state_dict()[MATRIX].clone()
    for number in range(2):
        take_step(batches, number)
        for name, master in masters.state_dict().items():
            weight = model.state_dict()[name]
            assert master.dtype == torch.float32 and torch.equal(master.to(weight.dtype), weight)
            assert not torch.equal(master, weight.float())
    assert not torch.equal(before, model.state_dict()[MATRIX])
    stepped = [p for group in take_step.optimizer.param_groups for p in group["params"]]
    assert all(p.grad is None for p in stepped if p.ndim >= 2 and p.dtype != torch.float32)
    assert all(
        moments["exp_avg"].dtype == torch.float32 for moments in take_step.optimizer.state.values()
    )


def test_first_step_is_adamws_of_the_gradient_in_float32():
    """Clipped, decayed and stepped in float64 by the formula: the first step has no bias."""
    settings = dict(learning_rate=1e-3, weight_decay=0.3, grad_clip_norm=1e-2)
    take_step, state, batches = make("bf16", **settings)
    reference = copy.deepcopy(state.model)
    CachedStep(reference, ClipLoss(), 3).over(batches)
    gradients = {n: p.grad.double() for n, p in reference.named_parameters()}
    norm = torch.stack([g.square().sum() for g in gradients.values()]).sum().sqrt()
    factor = min(1.0, 1e-2 / (norm.item() + 1e-6))
    assert factor < 0.5
    take_step(batches, 0)
    found = weights_of(state)
    for name, p in reference.named_parameters():
        gradient, decay = factor * gradients[name], 0.3 if p.ndim >= 2 else 0.0
        expected = p.double() * (1 - 1e-3 * decay) - 1e-3 * gradient / (gradient.abs() + 1e-6)
        if name != "logit_scale":
            # The norm is summed in float32, and eps counts where the gradient is small.
            torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=1e-3 * 1e-3)


def test_groups_hold_masters_where_there_are_some_and_decay_matrices_alone():
    model = set_precision(build(TINY), "bf16")
    model.lock_image_tower()
    masters = MasterWeights(model.named_parameters())
    kept, decayed = parameter_groups(model.parameters(), 0.1, masters)
    plain = parameter_groups(model.parameters(), 0.1)
    for group, expected in zip((kept, decayed), plain, strict=True):
        assert group["weight_decay"] == expected["weight_decay"]
        assert [p.shape for p in group["params"]] == [p.shape for p in expected["params"]]
        assert all(p.dtype == torch.float32 for p in group["params"])
    assert not any(name.startswith("visual.") for name in masters.state_dict())


def test_model_without_16_bit_weights_is_stepped_itself_to_the_bit():
    found = []
    for has_masters in (True, False):
        take_step, state, batches = make("fp32", has_masters=has_masters, decay=0.9)
        for number in range(2):
            take_step(batches, number)
        assert not take_step.masters.state_dict()
        found.append(state.state_dict())
    for part in ("state_dict", "ema_state_dict"):
        for name, value in found[0][part].items():
            assert torch.equal(value, found[1][part][name])


def test_average_follows_the_masters():
    """At a rate whose steps do not show in the weights, the average of masters moves."""
    decay, take = 0.5, 3
    take_step, state, batches = make("bf16", decay=decay, learning_rate=1e-6)
    expected = None
    for number in range(take):
        take_step(batches, number)
        master = take_step.masters.state_dict()[MATRIX].double()
        expected = master if expected is None else decay * expected + (1 - decay) * master
    found = state.state_dict()["ema_state_dict"][MATRIX]
    torch.testing.assert_close(found.double(), expected, rtol=1e-7, atol=0)
    assert not torch.equal(found, state.model.state_dict()[MATRIX].float())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_goes_on_to_the_bit_from_what_is_stored(precision):
    take_step, state, batches = make(precision, decay=0.9)
    for number in range(2):
        take_step(batches, number)
    stored = copy.deepcopy(state.state_dict())
    other_step, other, _ = make(precision, seed=1, decay=0.9)
    other.load_state_dict(stored)
    for step in (take_step, other_step):
        for number in (2, 3):
            step(batches, number)
    one, two = state.state_dict(), other.state_dict()
    for part in ("state_dict", "ema_state_dict"):
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), (part, name)
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name])
    for key, moments in one["optimizer"]["state"].items():
        assert torch.equal(moments["exp_avg"], two["optimizer"]["state"][key]["exp_avg"])


def test_checkpoint_of_16_bit_weights_loads_and_masters_begin_at_them():
    """Earlier versions stepped bfloat16 weights, with moments in bfloat16."""
    earlier_step, earlier, batches = make("bf16", has_masters=False, learning_rate=1e-2)
    earlier_step(batches, 0)
    stored = copy.deepcopy(earlier.state_dict())
    assert stored["state_dict"][MATRIX].dtype == torch.bfloat16
    take_step, state, _ = make("bf16", seed=1)
    state.load_state_dict(stored)
    for name, value in stored["state_dict"].items():
        assert torch.equal(state.model.state_dict()[name], value)
        assert torch.equal(state.state_dict()["state_dict"][name], value.float())
    moments = take_step.optimizer.state_dict()["state"]
    for key, of in stored["optimizer"]["state"].items():
        assert moments[key]["exp_avg"].dtype == torch.float32
        assert torch.equal(moments[key]["exp_avg"], of["exp_avg"].float())
    take_step(batches, 1)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "pure_bf16", "fp16"])
def test_what_is_stored_of_bf16_loads_into_a_model_of_any_precision(precision):
    take_step, state, batches = make("bf16", learning_rate=1e-2)
    take_step(batches, 0)
    stored = state.state_dict()["state_dict"]
    assert {value.dtype for value in stored.values()} == {torch.float32}
    model = set_precision(build(TINY, 1), precision)
    model.load_state_dict(stored)
    for name, value in model.state_dict().items():
        assert torch.equal(value, stored[name].to(value.dtype))
        if precision == "bf16":
            assert torch.equal(value, state.model.state_dict()[name])


def test_scaled_gradients_reach_the_masters_unscaled():
    found = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=256.0)):
        take_step, state, batches = make(
            "bf16", scaler=scaler, learning_rate=1e-3, grad_clip_norm=1e-2
        )
        take_step(batches, 0)
        found.append(weights_of(state))
    for name, value in found[0].items():  # a power of two scales bfloat16 without rounding
        torch.testing.assert_close(found[1][name], value, rtol=0, atol=1e-6)


def test_step_that_a_scaler_skips_leaves_weights_and_masters():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    take_step, state, batches = make("fp16", scaler=scaler, learning_rate=1e-2)
    before = copy.deepcopy(state.state_dict()["state_dict"])
    take_step(batches, 0)
    assert scaler.get_scale() == 2.0**119
    for name, value in state.state_dict()["state_dict"].items():
        assert torch.equal(value, before[name])
    scaler.update(2.0)
    take_step(batches, 1)
    assert not torch.equal(state.state_dict()["state_dict"][MATRIX], before[MATRIX])


def test_step_after_a_loss_that_was_not_finite_has_its_own_gradients_alone():
    found = []
    for has_failed in (False, True):
        take_step, state, batches = make("bf16", learning_rate=1e-2)
        if has_failed:
            bad = [batches[0], (batches[1][0] * float("nan"), batches[1][1])]
            with pytest.raises(FloatingPointError):
                take_step(bad, 0)
        take_step(batches, 0)
        found.append(weights_of(state))
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name])
