"""FSDP2: a step of shares is the step of the whole, and what is stored of it is whole tensors."""

import copy
from unittest import mock

import pytest
import torch
from torch.distributed.tensor import DTensor

from fastclip.models.precision import set_precision
from fastclip.train.checkpoints.trained_state import TrainedState
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.gradient_norm import gradient_norm, limit_norm
from fastclip.train.step.gradient_sync import GradientSync
from fastclip.train.step.optimizer import make_optimizer
from fastclip.train.step.optimizer_step import OptimizerStep
from fastclip.train.weights.masters import MasterWeights
from fastclip.train.weights.placement import make_average
from fastclip.train.weights.sharding import gathered, shard, whole
from tests.distributed.steps.test_cached_step import MICRO, STEPS, loss_of, make, share, train_alone
from tests.support.small_models import SMALL, build, inputs

CPU = torch.device("cpu")
CONFIG = StepConfig(batch_size=6, steps=3, learning_rate=1e-3)
SMALL_STEPS = StepConfig(batch_size=6, steps=3, learning_rate=1e-5, grad_clip_norm=1e-2)


def train_a_share(group, name, sizes, schedule, budget):
    rank = group.rank()
    model, _ = make(name)
    shard(model, CPU, group)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-6, foreach=False)
    loss = loss_of(name, process_group=group, schedule=schedule)
    compute = CachedStep(model, loss, MICRO, 0 if budget == "partial" else budget)
    torch.manual_seed(100 + rank)
    kept = []
    for step in range(STEPS):
        optimizer.zero_grad()
        result = compute(*share(name, step, sizes, rank))
        kept.append((result.num_kept, result.num_micro_batches))
        optimizer.step()
        if budget == "partial":
            compute.budget = 1.5 * result.kept_bytes
    is_shared = [isinstance(p, DTensor) for p in model.parameters()]
    return [whole(p.detach()) for p in model.parameters()], kept, is_shared


@pytest.mark.parametrize(
    "name, sizes, schedule, budget",
    [
        ("vit", (6, 6), "gather", 0),
        ("vit", (6, 6), "gather", "partial"),
        ("vit", (5, 4, 6), "ring", "partial"),
        ("vit", (5, 4, 6), "ring", "unlimited"),
        ("siglip", (9, 7), "gather", "unlimited"),
    ],
)
def test_parameters_after_three_steps_are_those_of_one_process(
    ranks, name, sizes, schedule, budget
):
    expected, _ = train_alone(name, sizes)
    for rank, (found, kept, is_shared) in enumerate(
        ranks.run(len(sizes), train_a_share, name, sizes, schedule, budget)
    ):
        num = -(-sizes[rank] // MICRO)
        assert kept[1:] == [({0: 0, "partial": 1, "unlimited": num}[budget], num)] * (STEPS - 1)
        assert is_shared.count(False) == (2 if name == "siglip" else 1)  # scale and bias
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def kept_with_budgets(group, budgets):
    model, _ = make("vit")
    shard(model, CPU, group)
    compute = CachedStep(model, loss_of("vit", process_group=group), MICRO, budgets[group.rank()])
    compute(*share("vit", 0, (9, 9), group.rank()))
    return compute(*share("vit", 1, (9, 9), group.rank())).num_kept


def test_ranks_with_different_budgets_keep_equally_many_graphs(ranks):
    assert ranks.run(2, kept_with_budgets, ["unlimited", 0]) == [0, 0]


def clipped(group, max_norm):
    model = build(SMALL["vit"]).double().train()
    images, tokens = inputs(SMALL["vit"], 4)
    if group is not None:
        shard(model, CPU, group)
    loss_of("vit", world_size=1)(*model(images.double(), tokens)).backward()
    if group is None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    else:
        gradients = [p.grad for p in model.parameters()]
        limit_norm(gradients, gradient_norm(gradients).item(), max_norm)
    return [whole(p.grad) for p in model.parameters()]


@pytest.mark.parametrize("max_norm", [1e-3, 1e9])
def test_norm_of_shares_is_clipped_as_that_of_the_whole(ranks, max_norm):
    expected = clipped(None, max_norm)
    for found in ranks.run(2, clipped, max_norm):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def make_state(group, seed):
    model = build(SMALL["vit"], seed).train()
    if group is not None:
        shard(model, CPU, group)
    optimizer = make_optimizer(model, CONFIG)
    rank, settings = (
        (0, {"world_size": 1}) if group is None else (group.rank(), {"process_group": group})
    )
    CachedStep(model, loss_of("vit", **settings), 3)(*inputs(SMALL["vit"], 3, seed=rank))
    optimizer.step()
    return TrainedState(model, optimizer)


def stored_and_loaded(group):
    """What one sharded model stores, and what another one, that has loaded it, stores."""
    one, other = make_state(group, 0), make_state(group, 1)
    content = one.state_dict()
    before = other.state_dict()
    other.load_state_dict(content)
    return content, before, other.state_dict()


def test_what_is_stored_is_whole_and_loads_into_shares_and_into_the_whole(ranks):
    for content, before, after in ranks.run(2, stored_and_loaded):
        plain = make_state(None, 1)
        template = plain.state_dict()
        assert list(content["state_dict"]) == list(template["state_dict"])
        for name, value in content["state_dict"].items():
            assert type(value) is torch.Tensor and value.shape == template["state_dict"][name].shape
            assert torch.equal(value, after["state_dict"][name])
        assert not torch.equal(
            before["state_dict"]["visual.proj"], content["state_dict"]["visual.proj"]
        )
        for index, state in template["optimizer"]["state"].items():
            for name, value in state.items():
                stored = content["optimizer"]["state"][index][name]
                assert stored.shape == value.shape
                assert torch.equal(stored, after["optimizer"]["state"][index][name])
        plain.load_state_dict(content)
        loaded = plain.state_dict()
        for name, value in content["state_dict"].items():
            assert torch.equal(loaded["state_dict"][name], value)
        assert content["optimizer"]["param_groups"][0]["foreach"] is False
        assert plain.optimizer.param_groups[0]["foreach"] is None


def stepped_in_16_bits(group):
    """A model of bfloat16 shares after three small steps of its masters, and one that resumed."""
    stored, dtypes = [], set()
    for seed in (0, 1):
        model = set_precision(build(SMALL["vit"], seed).train(), "pure_bf16")
        if group is not None:
            shard(model, CPU, group)
        masters = MasterWeights(model.named_parameters())
        optimizer = make_optimizer(model, SMALL_STEPS, masters)
        loss = loss_of("vit", **({"process_group": group} if group else {"world_size": 1}))
        step = OptimizerStep(CachedStep(model, loss, 3), optimizer, SMALL_STEPS, masters=masters)
        state = TrainedState(model, optimizer, masters=masters)
        if stored:
            state.load_state_dict(stored[2])
        batch = inputs(SMALL["vit"], 6)
        own = slice(None) if group is None else slice(3 * group.rank(), 3 * group.rank() + 3)
        batches = list(step.compute.micro_batches(batch[0][own].bfloat16(), batch[1][own]))
        dtypes |= {whole(p.detach()).dtype for p in model.parameters()}
        for number in range(2 * seed, 3):
            stored.append(copy.deepcopy(state.state_dict()))
            step(batches, number)
        stored.append(state.state_dict())
    return stored, dtypes


@pytest.mark.slow
def test_masters_of_shares_take_small_steps_and_resume_to_the_bit(ranks):
    (first, *_, alone, _, _), _ = stepped_in_16_bits(None)
    expected = alone["state_dict"]["visual.proj"] - first["state_dict"]["visual.proj"]
    for stored, dtypes in ranks.run(2, stepped_in_16_bits):
        begin, _, _, end, _, resumed = stored
        assert dtypes == {torch.bfloat16}
        for name, value in end["state_dict"].items():
            assert value.dtype == torch.float32
            assert torch.equal(value, resumed["state_dict"][name]), name
        moved = end["state_dict"]["visual.proj"] - begin["state_dict"]["visual.proj"]
        assert (moved != 0).double().mean() > 0.99
        assert (moved - expected).norm() < 0.2 * expected.norm()


def average_of_shares(group):
    """How far the average of a bfloat16 model's shares goes of the way to weights that stay."""
    model = set_precision(build(SMALL["vit"]).train(), "pure_bf16")
    average = make_average(model, 0.95, True)
    for one in (model, average.module):
        shard(one, CPU, group)
    average.update_parameters(model)
    start = whole(model.visual.proj.detach()).double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.03)
    for _ in range(60):
        average.update_parameters(model)
    mean, end = (whole(m.visual.proj.detach()).double() for m in (average.module, model))
    with torch.no_grad(), gathered(average.module):
        features = average.module(*inputs(SMALL["vit"], 2))[0]
    return ((mean - start).norm() / (end - start).norm()).item(), features.dtype


def test_average_of_16_bit_shares_is_float32_and_moves(ranks):
    for gone, dtype in ranks.run(2, average_of_shares):
        assert gone == pytest.approx(1 - 0.95**60, abs=1e-3) and dtype == torch.float32


def features_called_unequally(group):
    """Each rank encodes another number of batches; without `gathered` this would not end."""
    model = build(SMALL["vit"])
    shard(model, CPU, group)
    images, tokens = inputs(SMALL["vit"], 2)
    with torch.no_grad(), gathered(model):
        features = [model(images, tokens)[0] for _ in range(1 + 3 * group.rank())]
    is_shared = isinstance(model.visual.proj, DTensor)
    return features[-1], is_shared


def test_gathered_model_is_called_by_each_rank_as_often_as_it_likes(ranks):
    images, tokens = inputs(SMALL["vit"], 2)
    with torch.no_grad():
        expected = build(SMALL["vit"])(images, tokens)[0]
    for found, is_shared in ranks.run(2, features_called_unequally):
        assert is_shared
        torch.testing.assert_close(found, expected)


def gradients_under_autocast(group, budget):
    model = build(SMALL["vit"]).train()
    shard(model, CPU, group)
    loss = loss_of("vit", process_group=group)
    compute = CachedStep(
        model, loss, MICRO, 0, autocast=lambda: torch.autocast("cpu", torch.bfloat16)
    )  # fmt: skip
    images, tokens = inputs(SMALL["vit"], 9, seed=group.rank())
    for _ in range(2):
        model.zero_grad()
        compute(images, tokens)
        compute.budget = budget
    return [whole(p.grad) for p in model.parameters()]


def test_kept_graphs_of_shares_are_right_under_autocast(ranks):
    """Weights that autocast has converted must not be shared by graphs: FSDP2 reduces once each."""
    (again, _), (kept, _) = (
        ranks.run(2, gradients_under_autocast, budget) for budget in (0, float("inf"))
    )
    for one, other in zip(kept, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3 * other.abs().max().item())


def steps_with_one_bad_rank(group, is_shared):
    """Whether steps were taken, of which the second has a bad gradient on the last rank alone."""
    rank, model = group.rank(), build(SMALL["vit"]).train()
    if is_shared:
        shard(model, CPU, group)
    config = StepConfig(**{**CONFIG.to_dict(), "on_nonfinite": "skip"})
    compute = CachedStep(model, loss_of("vit", process_group=group), 3)
    step = OptimizerStep(compute, make_optimizer(model, config), config)
    over, average = compute.over, GradientSync.average
    is_bad = []

    def spoil():
        gradient = model.visual.proj.grad
        if is_bad and rank == 1:
            (gradient.to_local() if is_shared else gradient)[0] = float("nan")

    def over_and_spoil(batches):  # the share of this rank alone, after the reduction
        result = over(batches)
        spoil()
        return result

    def spoil_and_average(sync):  # the gradient of this rank alone, before the mean
        spoil()
        average(sync)

    if is_shared:
        compute.over = over_and_spoil
    batches = list(compute.micro_batches(*inputs(SMALL["vit"], 3, seed=rank)))
    objections = []
    with mock.patch.object(GradientSync, "average", average if is_shared else spoil_and_average):
        for number in range(3):
            is_bad[:] = [True] * (number == 1)
            objections.append(step(batches, number).objection)
    return objections, whole(model.visual.proj.detach())


@pytest.mark.parametrize("is_shared", [False, True])
def test_all_ranks_leave_out_the_step_in_which_one_has_a_bad_gradient(ranks, is_shared):
    (one, mine), (other, theirs) = ranks.run(2, steps_with_one_bad_rank, is_shared)
    assert one == other and [objection is None for objection in one] == [True, False, True]
    assert "the gradient of step 2 is not finite, in the image tower: visual.proj;" in one[1]
    assert torch.equal(mine, theirs) and mine.isfinite().all()
