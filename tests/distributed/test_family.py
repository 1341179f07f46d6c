"""The family's losses over ranks: values and gradients are those of one batch in one process."""

import pytest
import torch

import fastclip
from fastclip import cached_step
from tests.distributed.pairs import SCHEDULES, SIZES
from tests.distributed.steps.test_gradient_average import make_batch, make_model
from tests.support.dense import views

NEGATIVES = (3, 11, 1, 6)  # of each rank
NAMES = {
    # name: how many matrices of a row per sample, and whether labels follow; options
    "info_nce_loss": (2, False, {}),
    "nt_xent_loss": (2, False, {}),
    "sup_con_loss": (1, True, {}),
    "uni_cl_loss": (2, True, {}),
    "dcl_loss": (2, False, {"sigma": 0.5}),
    "info_loob_loss": (2, False, {}),
    "multiple_negatives_loss": (
        3,
        False,
        {
            "directions": ("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"),
            "hardness_mode": "all_negatives",
            "hardness_strength": 2.0,
        },
    ),
}


def problem(name, num_ranks):
    """All samples' features and labels, and options."""
    num, is_labelled, options = NAMES[name]
    size = sum(SIZES[:num_ranks])
    inputs = views(num, size, 16)
    if is_labelled:
        inputs.append(torch.arange(size) ** 2 % 11)
        inputs[-1][3] = -1  # alone
    return inputs, options


def compute(name, inputs, scale, options, **more):
    wanted = [x for x in (*inputs, scale) if x.is_floating_point()]
    for x in wanted:
        x.requires_grad_()
    if name == "multiple_negatives_loss":
        inputs = [*inputs[:2], inputs[2:]]
    loss = getattr(fastclip, name)(*inputs, logit_scale=scale, **options, **more)
    return loss.detach(), torch.autograd.grad(loss, wanted)


def of_a_rank(group, name, schedule):
    features, options = problem(name, group.size())
    own = [x.split(SIZES[: group.size()])[group.rank()] for x in features]
    scale = torch.tensor(14.3, dtype=torch.float64)
    further = dict(process_group=group, schedule=schedule, backend="chunked")
    return compute(name, own, scale, options, **further)


@pytest.mark.parametrize("num_ranks", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_mean_of_gradients_is_that_of_the_whole_batch(ranks, name, num_ranks):
    features, options = problem(name, num_ranks)
    scale = torch.tensor(14.3, dtype=torch.float64)
    expected = compute(name, features, scale, options)
    for schedule in SCHEDULES:
        check(expected, ranks.run(num_ranks, of_a_rank, name, schedule))


def check(expected, found):
    """Every rank's loss is the whole's, and so is the mean of gradients of what all of them own."""
    loss, (*of_features, of_scale) = expected
    num_ranks = len(found)
    for other, _ in found:
        torch.testing.assert_close(other, loss, rtol=1e-12, atol=1e-14)
        assert torch.equal(other, found[0][0])
    for i, gradient in enumerate(of_features):
        parts = torch.cat([gradients[i] for _, gradients in found]) / num_ranks
        torch.testing.assert_close(parts, gradient, rtol=1e-10, atol=1e-13)
    mean = sum(gradients[-1] for _, gradients in found) / num_ranks
    torch.testing.assert_close(mean, of_scale, rtol=1e-10, atol=1e-13)


def with_negatives(group, schedule):
    features, _ = problem("info_nce_loss", group.size())
    own = [x.split(SIZES[: group.size()])[group.rank()] for x in features]
    negatives = views(1, sum(NEGATIVES[: group.size()]), 16, "trained")[0]
    own.append(negatives.split(NEGATIVES[: group.size()])[group.rank()])
    scale = torch.tensor(14.3, dtype=torch.float64)
    options = dict(process_group=group, schedule=schedule, backend="reference")
    return compute("info_nce_loss", own, scale, {}, **options)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_negatives_may_differ_in_number(ranks, schedule):
    features, _ = problem("info_nce_loss", 3)
    features.append(views(1, sum(NEGATIVES[:3]), 16, "trained")[0])
    scale = torch.tensor(14.3, dtype=torch.float64)
    expected = compute("info_nce_loss", features, scale, {})
    check(expected, ranks.run(3, with_negatives, schedule))


def disagreements(group):
    query, key, negatives = (x[: 3 + group.rank()] for x in views(3, 8, 16))
    calls = [
        lambda: fastclip.info_nce_loss(
            query, key, negatives if group.rank() else None, process_group=group
        ),
        lambda: fastclip.info_nce_loss(
            query, key, temperature=0.1 * (1 + group.rank()), process_group=group
        ),
        lambda: fastclip.info_nce_loss(query, key, reduction="none", process_group=group),
        lambda: fastclip.InfoNCELoss(process_group=group)(query, key),
        lambda: fastclip.info_loob_loss(query[:1], key[:1], process_group=group),
        lambda: fastclip.multiple_negatives_loss(
            query, key, [key] * group.rank(), process_group=group
        ),
        lambda: fastclip.dcl_loss(query, key, sigma=0.1 + group.rank(), process_group=group),
        lambda: fastclip.NTXentLoss(process_group=group, schedule=("gather", "ring")[group.rank()])(
            query, key
        ),
        lambda: fastclip.nt_xent_loss(query, key, process_group=group, schedule="tree"),
    ]
    said = []
    for call in calls:
        try:
            said.append(call().shape)
        except ValueError as error:
            said.append(str(error))
    return said


def test_ranks_that_disagree_are_told_so(ranks):
    for said in ranks.run(2, disagreements):
        assert "the loss must be the same on ranks 0 to 1, got info_nce_loss, info" in said[0]
        assert "logit_scale must be the same on ranks 0 to 1, got 10.0, 5.0" in said[1]
        assert "reduction must be 'mean' with a process_group, got 'none'" in said[2]
        assert said[3:5] == [(), ()]  # one pair per rank is two
        assert "the number of hard_negatives must be the same on ranks 0 to 1" in said[5]
        assert "sigma must be the same on ranks 0 to 1" in said[6]
        assert "schedule must be the same on ranks 0 to 1, got gather, ring" in said[7]
        assert "schedule must be one of ('gather', 'ring'), got 'tree'" in said[8]


def step_of_a_rank(group, world_size):
    model = make_model()
    loss = fastclip.NTXentLoss(process_group=None if world_size else group, world_size=world_size)
    cached_step(model, make_batch(group.rank()), loss, 2)
    return gradients_of(model)


def gradients_of(model):
    return [p.grad for p in model.parameters() if p.grad is not None]


def of_batches(*batches):
    model = make_model()
    inputs = (torch.cat(parts) for parts in zip(*batches, strict=True))
    fastclip.NTXentLoss(world_size=1)(*model(*inputs)).backward()
    return gradients_of(model)


def test_a_bare_model_gets_the_gradients_of_the_loss_it_has(ranks):
    whole = of_batches(make_batch(0), make_batch(1))
    for found in ranks.run(2, step_of_a_rank, None):
        torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-13)
    for rank, found in enumerate(ranks.run(2, step_of_a_rank, 1)):
        own = of_batches(make_batch(rank))
        torch.testing.assert_close(found, own, rtol=1e-10, atol=1e-13)


def queue_steps(group, num_ranks, symmetric, schedule):
    """The last loss of three, its gradients, and the state; of one process without a group."""
    sizes = SIZES[:num_ranks]
    loss = fastclip.QueueLoss(
        16, 50, in_batch=symmetric, symmetric=symmetric, process_group=group,
        world_size=1 if group is None else None, schedule=schedule,
    ).double()  # fmt: skip
    for seed in range(3):
        features = [x.roll(seed, 0) for x in views(4 if symmetric else 2, sum(sizes), 16)]
        if group is not None:
            features = [x.split(sizes)[group.rank()] for x in features]
        leaves = [x.requires_grad_() for x in features]
        scale = torch.tensor(14.3, dtype=torch.float64, requires_grad=True)
        value = loss(*leaves, logit_scale=scale)
    return (value.detach(), torch.autograd.grad(value, [*leaves, scale])), loss.state_dict()


@pytest.mark.parametrize(
    "symmetric, schedule", [(False, "gather"), (True, "gather"), (True, "ring")]
)
def test_queues_of_ranks_stay_the_same(ranks, symmetric, schedule):
    expected, state = queue_steps(None, 3, symmetric, schedule)
    found = ranks.run(3, queue_steps, 3, symmetric, schedule)
    check(expected, [result for result, _ in found])
    for _, other in found:
        assert other.keys() == state.keys()
        assert all(torch.equal(other[name], value) for name, value in state.items())


def unequal_queues(group):
    x = views(1, 4, 16)[0].float()
    loss = fastclip.QueueLoss(16, 50, process_group=group)
    if group.rank() == 1:
        loss.enqueue(x)
    try:
        return str(loss(x, x))
    except ValueError as error:
        return str(error)


def test_ranks_with_other_queues_are_told_so(ranks):
    for said in ranks.run(2, unequal_queues):
        assert said.startswith("num_kept must be the same on ranks 0 to 1")


def averages(group, num_ranks, schedule, state=None):
    """As `queue_steps`, of SogCLR; some samples are met twice, one of them in one batch. With the
    `state` after the first two steps, the last one alone."""
    sizes = SIZES[:num_ranks]
    loss = fastclip.SogCLRLoss(
        200, rho=8.0, process_group=group, world_size=1 if group is None else None,
        schedule=schedule,
    ).double()  # fmt: skip
    if state is not None:
        loss.load_state_dict({"log_u": state})
    states = []
    for seed in range(3) if state is None else (2,):
        indices = (torch.arange(sum(sizes)) + 40 * seed) * 7 % 200
        if seed == 1:
            indices[[0, sizes[0], -1]] = 9
        inputs = [*(x.roll(seed, 0) for x in views(2, sum(sizes), 16)), indices]
        if group is not None:
            inputs = [x.split(sizes)[group.rank()] for x in inputs]
        leaves = [x.requires_grad_() for x in inputs[:2]]
        scale = torch.tensor(14.3, dtype=torch.float64, requires_grad=True)
        value = loss(*inputs, scale)
        states.append(loss.state_dict()["log_u"].clone())
    results = value.detach(), torch.autograd.grad(value, [*leaves, scale])
    return results, states, loss.log_u.shape[1]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_averages_of_ranks_are_those_of_one_process_each_with_its_samples(ranks, schedule):
    expected, states, _ = averages(None, 3, schedule)
    found = ranks.run(3, averages, 3, schedule)
    check(expected, [result for result, *_ in found])
    assert [num for *_, num in found] == [67, 67, 66]
    for _, others, _ in found:
        assert all(map(torch.equal, others, found[0][1]))
        torch.testing.assert_close(others, states, rtol=1e-12, atol=1e-12)
    for result, (other,), _ in ranks.run(3, averages, 3, schedule, found[0][1][1]):
        assert torch.equal(result[0], found[0][0][0]) and torch.equal(other, found[0][1][2])
    result, (other,), _ = averages(
        None, 3, schedule, found[0][1][1]
    )  # by another number of processes
    check(expected, [result])
    torch.testing.assert_close(other, states[2], rtol=1e-12, atol=1e-12)


def sharded_averages(group, state):
    """What becomes of a state that is loaded before and after the first call; and of others."""
    before = fastclip.SogCLRLoss(10, process_group=group)
    before.load_state_dict(state)
    after = fastclip.SogCLRLoss(10, process_group=group)
    x, y = (x.float() for x in views(2, 6, 4))
    after(x, y, torch.arange(6))
    after.load_state_dict(state)
    rank = group.rank()
    values = [loss(x[rank:], y[rank:], torch.arange(6)[rank:] + 2) for loss in (before, after)]
    found = [loss.state_dict()["log_u"] for loss in (before, after)]
    with pytest.raises(RuntimeError, match=r"log_u must have shape \(2, 10\), .* got \(2, 5\)"):
        after.load_state_dict({"log_u": torch.zeros(2, 5)})
    after.process_group, after.world_size = None, 1
    with pytest.raises(
        ValueError, match=f"averages of rank {rank} of 2, and .* now makes it rank 0 "
    ):
        after(x, y, torch.arange(6))
    return values, found


def test_state_that_is_loaded_is_of_all_samples(ranks):
    state = {"log_u": torch.arange(20.0).view(2, 10)}
    for values, found in ranks.run(2, sharded_averages, state):
        assert torch.equal(*values) and torch.equal(*found)
        is_met = (torch.arange(10) >= 2) & (torch.arange(10) < 8)
        assert torch.equal(found[0] != state["log_u"], is_met.expand(2, 10))


DIMS, WEIGHTS = (16, 5, 11), (1.0, 0.5, 2.0)


def matryoshka(group, schedule):
    """Its loss, and its gradients, of a rank; of the whole batch without a group."""
    features = views(2, sum(SIZES[:3]), 16)
    if group is not None:
        features = [x.split(SIZES[:3])[group.rank()] for x in features]
    leaves = [x.clone().requires_grad_() for x in features]
    leaves.append(torch.tensor(14.3, dtype=torch.float64, requires_grad=True))
    loss = fastclip.MatryoshkaClipLoss(
        DIMS, WEIGHTS, backend="chunked", process_group=group, schedule=schedule
    )(*leaves)
    return loss.detach(), torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_prefixes_are_those_of_all_pairs(ranks, schedule):
    check(matryoshka(None, schedule), ranks.run(3, matryoshka, schedule))


def refused_prefixes(group, of_rank_1):
    features = torch.ones(3, 4)
    options = {"dims": (4, 2), "weights": (1.0, 2.0)} | (of_rank_1 if group.rank() == 1 else {})
    with pytest.raises(ValueError) as error:
        fastclip.matryoshka_clip_loss(features, features, 10.0, process_group=group, **options)
    return str(error.value)


@pytest.mark.parametrize(
    "of_rank_1, message",
    [
        ({"dims": (4,), "weights": None}, "the number of dims must be the same on ranks 0 to 1"),
        ({"dims": (4, 3)}, r"dims[1] must be the same on ranks 0 to 1"),
        ({"weights": None}, r"weights[1] must be the same on ranks 0 to 1"),
    ],
)
def test_ranks_whose_prefixes_disagree_raise_the_same_error(ranks, of_rank_1, message):
    errors = ranks.run(2, refused_prefixes, of_rank_1)
    assert errors[0].startswith(message) and errors == [errors[0]] * 2
