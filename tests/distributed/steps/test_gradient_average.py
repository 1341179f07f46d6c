"""A bare model over ranks: gradients are averaged once, as DistributedDataParallel does it."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fastclip import ClipLoss, SigLipLoss, TwoTower, cached_step
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.gradient_average import average_gradients
from fastclip.train.weights.sharding import shard, whole
from tests.distributed.steps.test_cached_step import MICRO, STEPS, make, share, train_alone
from tests.distributed.steps.test_cached_step import loss_of as loss_of_name

WIDTH = 8


class Encoder(nn.Module):
    """A layer, one that only some ranks use, one that nobody uses, and a frozen one."""

    num_features = WIDTH

    def __init__(self):
        super().__init__()
        self.layer, self.sometimes = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.unused, self.frozen = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.frozen.requires_grad_(False)
        self.is_used = True
        self.change = nn.Identity()

    def forward(self, x):
        x = self.frozen(self.layer(self.change(x)))
        return x + self.sometimes(x) if self.is_used else x


class ByName(nn.Module):
    """Called as transformers' models are."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    @property
    def logit_scale(self):
        return self.model.logit_scale

    def forward(self, input_ids=None, pixel_values=None, return_dict=None):
        image_features, text_features, _ = self.model(pixel_values, input_ids)
        logits = self.logit_scale.exp() * image_features @ text_features.T
        return {"logits": logits, "image_embeds": image_features, "text_embeds": text_features}


class Weighted(nn.Module):
    """A loss with a parameter of its own, around one of ours."""

    def __init__(self, loss):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        self.loss = loss

    def forward(self, *outputs):
        return {"contrastive_loss": self.weight * self.loss(*outputs)}


def make_model():
    torch.manual_seed(0)
    return TwoTower(Encoder(), Encoder(), embed_dim=4).double()


def make_batch(rank, size=4):
    generator = torch.Generator().manual_seed(rank)
    return [torch.randn(size, WIDTH, dtype=torch.float64, generator=generator) for _ in range(2)]


def gradients(*modules):
    return [
        {name: None if p.grad is None else whole(p.grad) for name, p in m.named_parameters()}
        for m in modules
    ]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert (one[name] is None) == (value is None), name
            if value is not None:
                torch.testing.assert_close(one[name], value, rtol=1e-12, atol=1e-14)


def of_the_whole_batch(num_ranks):
    """In one process; the layer that rank 0 does not use counts for the others' samples only."""
    model, loss = make_model(), Weighted(ClipLoss(world_size=1, backend="reference"))
    parts = []
    for rank in range(num_ranks):
        model.visual.encoder.is_used = rank > 0
        parts.append(model(*make_batch(rank)))
    features = (torch.cat([part[side] for part in parts]) for side in (0, 1))
    sum(loss(*features, parts[0][2]).values()).backward()
    return gradients(model, loss)


def of_a_rank(group, wrap, average_over="auto", times=1):
    model = make_model()
    model.visual.encoder.is_used = group.rank() > 0
    loss = Weighted(ClipLoss(process_group=group, backend="reference"))
    called = model
    if wrap in ("whole", "by name"):
        inner = model if wrap == "whole" else ByName(model)
        called = DistributedDataParallel(inner, process_group=group, find_unused_parameters=True)
    if wrap == "part":
        model.text.encoder.unused.requires_grad_(False)
        model.text = DistributedDataParallel(model.text, process_group=group)
    if wrap == "text sharded":
        shard(model.text, torch.device("cpu"), group)
    over = group if average_over == "group" else average_over
    for _ in range(times):
        cached_step(called, make_batch(group.rank()), loss, 2, average_over=over)
    found = gradients(model, loss)
    return [{name.replace(".module", ""): g for name, g in part.items()} for part in found]


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
@pytest.mark.parametrize("wrap", [None, "whole", "by name", "part", "text sharded"])
def test_gradients_are_those_of_the_whole_batch_whatever_is_wrapped(ranks, num_ranks, wrap):
    expected = of_the_whole_batch(num_ranks)
    for found in ranks.run(num_ranks, of_a_rank, wrap):
        assert_same(found, expected)


def test_group_may_be_named_and_gradients_add_up(ranks):
    expected = of_the_whole_batch(2)
    doubled = [{n: None if g is None else 2 * g for n, g in part.items()} for part in expected]
    for wrap in (None, "whole"):
        for found in ranks.run(2, of_a_rank, wrap, "group", times=2):
            assert_same(found, doubled)


def test_none_leaves_the_average_to_the_caller(ranks):
    def mean(name, part):
        return sum(0 if f[part][name] is None else f[part][name] for f in found) / len(found)

    found = ranks.run(2, of_a_rank, None, None)
    assert not torch.equal(*(f[0]["visual.encoder.layer.weight"] for f in found))
    for part, values in enumerate(of_the_whole_batch(2)):
        for name, value in values.items():
            if value is not None:
                torch.testing.assert_close(mean(name, part), value, rtol=1e-12, atol=1e-14)


def train_a_rank(group, name, sizes, budget):
    """As `test_cached_step`, without a wrapper."""
    rank = group.rank()
    model, optimizer = make(name)
    compute = CachedStep(model, loss_of_name(name, process_group=group), MICRO, budget)
    torch.manual_seed(100 + rank)
    kept = []
    for step in range(STEPS):
        optimizer.zero_grad()
        kept.append(compute(*share(name, step, sizes, rank)).num_kept)
        optimizer.step()
    return [p.detach() for p in model.parameters()], kept


@pytest.mark.parametrize(
    "name, sizes, budget", [("vit", (7, 2), 0), ("siglip", (3, 8, 4), "unlimited")]
)
def test_parameters_after_the_steps_are_those_of_one_process(ranks, name, sizes, budget):
    expected, _ = train_alone(name, sizes)
    for rank, (found, kept) in enumerate(ranks.run(len(sizes), train_a_rank, name, sizes, budget)):
        num = -(-sizes[rank] // MICRO)  # all: no backward has to follow its own forward
        assert kept == [num if budget else 0] * STEPS
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def groups_found(group):
    """Of which ranks "auto" takes the mean, by the number of ranks it is divided by."""

    def find(loss, average_over="auto"):
        # The gradient of a rank is its number.
        model = make_model()
        cached_step(model, make_batch(0), loss, 4, average_over=average_over)
        gradient = model.logit_scale.grad
        everyone = [torch.empty_like(gradient) for _ in range(group.size())]
        dist.all_gather(everyone, gradient, group=group)
        return len(set(map(float, everyone))) == 1

    rank = group.rank()

    def of_rank(images, texts, scale):  # any function is over all ranks
        return (1 + rank) * (images * texts).sum() * scale

    alone = ClipLoss(world_size=1)
    return [
        find(of_rank),
        find(of_rank, group),
        find(of_rank, None),
        find(lambda *outputs: (1 + rank) * alone(*outputs)),
        find(Scaled(alone, 1 + rank)),  # this process alone, it says
        find(Scaled(SigLipLoss(process_group=group), 1 + rank)),
    ]


class Scaled(nn.Module):
    def __init__(self, loss, factor):
        super().__init__()
        self.loss, self.factor = loss, factor

    def forward(self, *outputs):
        return self.factor * self.loss(*outputs)


def test_ranks_are_those_of_the_loss_and_else_all(ranks):
    for found in ranks.run(4, groups_found):
        assert found == [True, True, False, True, False, True]


def averaged_alone(group, dtype):
    """Parameters of two dtypes, of which some ranks lack some gradients; counted are messages."""
    rank, sent = group.rank(), []
    parameters = [nn.Parameter(torch.zeros(2, dtype=d)) for d in (dtype, torch.float64, dtype)]
    parameters.append(nn.Parameter(torch.zeros(0, 3)))
    if rank:
        parameters[0].grad = torch.full_like(parameters[0], 3.0 * rank)
    parameters[1].grad = torch.full_like(parameters[1], float(rank))
    all_reduce = dist.all_reduce
    dist.all_reduce = lambda tensor, **options: sent.append(tensor.dtype) or all_reduce(
        tensor, **options
    )
    try:
        average_gradients(parameters, group)
    finally:
        dist.all_reduce = all_reduce
    return [p.grad for p in parameters], sent


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_there_is_one_message_per_dtype(ranks, dtype):
    for found, sent in ranks.run(2, averaged_alone, dtype):
        assert sent == [dtype, torch.float64, torch.float32]
        assert found[0].dtype == dtype and found[0].tolist() == [1.5, 1.5]
        assert found[1].tolist() == [0.5, 0.5]
        assert found[2] is None and found[3] is None


class Counter(nn.Module):
    """Adds another number at every call."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return x + self.calls


def refused(group, case):
    model = make_model()
    loss = ClipLoss(process_group=group, backend="reference")
    step = CachedStep(model, loss, 2)
    if case == "frozen on one rank" and group.rank() == 1:
        model.text.encoder.layer.requires_grad_(False)
        model.text.encoder.layer.weight.requires_grad_(True)
    if case == "other ranks than the wrapper's":
        wrapped = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)
        step = CachedStep(wrapped, loss, 2, average_over=dist.group.WORLD)
    if case == "several groups":
        step = CachedStep(model, nn.ModuleList([loss, ClipLoss()]), 2)
    if case == "another forward on rank 1" and group.rank() == 1:
        model.text.encoder.change = Counter()
    try:
        step(*make_batch(group.rank()))
    except (ValueError, RuntimeError) as error:
        left = [p for p in model.parameters() if p.grad is not None]
        return f"{type(error).__name__}: {error}", len(left)
    return None


@pytest.mark.parametrize(
    "case, message",
    [
        ("frozen on one rank", "ValueError: every rank must train the same parameters"),
        ("other ranks than the wrapper's", r"ValueError: average_over must be 'auto' or None, or"),
        ("several groups", "ValueError: average_over must be a ProcessGroup or None where parts"),
        ("another forward on rank 1", "RuntimeError: the text tower returned another result"),
    ],
)
def test_errors_are_the_same_on_all_ranks(ranks, case, message):
    found = ranks.run(2, refused, case)
    assert found[0][0] == found[1][0] and found[0][0].startswith(message)
    if case == "another forward on rank 1":
        assert "on rank 1" in found[0][0] and found[0][1] == found[1][1] == 0


def test_what_cannot_be_averaged_over_is_refused():
    model, loss = make_model(), ClipLoss()
    with pytest.raises(ValueError, match=r"average_over must be 'auto', .* got 'all'"):
        CachedStep(model, loss, 2, average_over="all")
    with pytest.raises(TypeError, match="ProcessGroup"):
        CachedStep(model, loss, 2, average_over=3)
    one = copy.deepcopy(model)
    for each, over in ((model, "auto"), (one, None)):  # alone there is nothing to average
        cached_step(each, make_batch(0), loss, 2, average_over=over)
    assert_same(gradients(model), gradients(one))
