"""A second encoding is the first one again, or the step says that it is not."""

import collections
import copy
import functools
import os
import random
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastclip import ClipLoss, TwoTower
from fastclip.train.step.cached import CachedStep, cached_step
from fastclip.train.step.random_state import RandomState, generators_of
from fastclip.train.step.second_encoding import (
    coarsest,
    objection,
    relative_difference,
    rounding_explains,
)
from tests.support.small_models import SMALL, build, inputs
from tests.train.step.test_step import assert_equal, gradients, plain_gradients

B, MICRO, WIDTH = 10, 3, 16
LOSS = ClipLoss(backend="reference")
OF_A_SCRIPT = np.random.default_rng(0)


class Encoder(nn.Module):
    """What `change()` makes of the input, and a layer."""

    num_features = WIDTH

    def __init__(self, change=None):
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.change = change() if change else nn.Identity()

    def forward(self, x):
        return self.layer(self.change(x))


class Drop(nn.Module):
    """Drops entries of its input by the numbers of `draw`, called with a number of them.

    A sample can also be dropped as a whole, as stochastic depth does, or the layer for all.
    """

    def __init__(self, draw, per="entry", **attributes):
        super().__init__()
        self.draw, self.per = draw, per
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        shape = {"entry": x.shape, "sample": (len(x), 1), "layer": (1, 1)}[self.per]
        number = int(np.prod(shape))
        keep = torch.as_tensor(self.draw(self, number)).reshape(shape) > 0.4
        return x * keep + 0.1 * x


class RunningMean(nn.Module):
    """Features are centred by a mean that every forward moves."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(WIDTH))

    def forward(self, x):
        with torch.no_grad():
            self.mean.lerp_(x.mean(0), 0.1)
        return x - self.mean


class Counter(nn.Module):
    """A buffer that is another tensor after every forward."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls = self.calls + 1
        return x + 0.1 * self.calls


class Augmentation:
    """Not a module; its generators are in a list."""

    def __init__(self):
        self.generators = [np.random.RandomState(3), random.Random(3)]


class Slots:
    __slots__ = ("own",)

    def __init__(self):
        self.own = torch.Generator().manual_seed(3)


def by_class():
    class DropByClass(Drop):
        shared = random.Random(3)

    return DropByClass(lambda self, n: [self.shared.random()], per="layer")


def hooked():
    """An encoder's layer whose output a hook thins out, by a generator that it closes over."""
    own = np.random.default_rng(3)
    layer = nn.Linear(WIDTH, WIDTH)
    layer.register_forward_hook(
        lambda module, args, output: output * torch.as_tensor(own.random(output.shape) > 0.4)
    )
    return layer


def by_default():
    own = torch.Generator().manual_seed(3)
    return Drop(lambda self, n, own=own: torch.rand(n, generator=own))


def by_default_name():
    own = np.random.default_rng(3)
    return Drop(lambda self, n, *, own=own: own.random(n))


CHANGES = {
    "numpy": lambda: Drop(lambda _, n: np.random.rand(n)),
    "python": lambda: Drop(lambda _, n: [random.random()], per="layer"),
    "torch": lambda: Drop(lambda _, n: torch.rand(n), per="sample"),
    "own torch.Generator": lambda: Drop(
        lambda self, n: torch.rand(n, generator=self.own),
        per="sample",
        own=torch.Generator().manual_seed(3),
    ),
    "own numpy Generator": lambda: Drop(
        lambda self, n: self.own["deep"][0].random(n), own={"deep": (np.random.default_rng(3),)}
    ),
    "own BitGenerator": lambda: Drop(
        lambda self, n: np.random.Generator(self.own).random(n), own=np.random.Philox(3)
    ),
    "object with RandomState and Random": lambda: Drop(
        lambda self, n: self.own.generators[0].rand(n) * self.own.generators[1].random() ** 0.1,
        own=Augmentation(),
    ),
    "method and partial": lambda: Drop(
        lambda self, n: self.draws(n) * self.factor() ** 0.1,
        draws=functools.partial(np.random.default_rng(3).uniform, 0, 1),
        factor=random.Random(3).random,
    ),
    "object with slots": lambda: Drop(
        lambda self, n: torch.rand(n, generator=self.own.own), own=Slots()
    ),
    "attribute of the class": by_class,
    "deque": lambda: Drop(
        lambda self, n: self.own[0].random(n), own=collections.deque([np.random.default_rng(3)])
    ),
    "default of a function": by_default,
    "default of a function, by name": by_default_name,
    "hook that closes over it": hooked,
    "normal from two draws": lambda: Drop(lambda _, n: np.random.randn(n)[: n | 1]),
    "running mean": RunningMean,
    "tensor that is replaced": Counter,
    "tensor that is no buffer": lambda: Drop(
        lambda self, n: torch.rand(n) * self.own[:1], own=torch.ones(3)
    ),
    "instance norm": lambda: nn.Sequential(
        nn.Unflatten(1, (2, WIDTH // 2)),
        nn.InstanceNorm1d(2, track_running_stats=True),
        nn.Flatten(),
    ),
    "power iteration": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH)),
}


def make_model(change, tower="image"):
    torch.manual_seed(0)
    towers = [Encoder(change if tower == side else None) for side in ("image", "text")]
    return TwoTower(*towers, embed_dim=8).double().train()


def make_batch():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(B, WIDTH, dtype=torch.float64, generator=generator) for _ in range(2)]


def seed():
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)


def states(model):
    """Of all generators, and of what is in buffers."""
    found = RandomState(generators_of(model)).states
    return repr([found, [buffer.tolist() for buffer in model.buffers()]])


@pytest.mark.parametrize("kept", [0, 2])
@pytest.mark.parametrize("kind", CHANGES)
def test_what_forwards_draw_and_change_is_taken_back(kind, kept):
    tower = "image" if kept else "text"
    model, other, measured = (make_model(CHANGES[kind], tower) for _ in range(3))
    budget = (kept + 0.5) * cached_step(measured, make_batch(), LOSS, MICRO).kept_bytes
    seed()
    plain_gradients(model, *make_batch(), LOSS)
    seed_and_expected = states(model)
    seed()
    result = cached_step(other, make_batch(), LOSS, MICRO, budget)
    assert result.num_kept == kept
    assert_equal(gradients(other), gradients(model))
    assert states(other) == seed_and_expected


def test_what_prepares_images_may_draw_too():
    model = make_model(None)
    other = copy.deepcopy(model)

    class Cut:
        def __init__(self):
            self.generator = np.random.default_rng(3)

        def __call__(self, images):
            return images * torch.as_tensor(self.generator.random(images.shape) > 0.3)

    images, texts = make_batch()
    cut = Cut()
    prepared = torch.cat([cut(part) for part in images.split(MICRO)])
    plain_gradients(model, prepared, texts, LOSS)
    CachedStep(other, LOSS, MICRO, prepare=Cut())(images, texts)
    assert_equal(gradients(other), gradients(model))


def test_what_a_model_points_at_weakly_is_no_part_of_it():
    """As a Lightning module has its trainer, which may be gone."""
    model = make_model(None)
    trainer = Augmentation()
    model.trainer = weakref.proxy(trainer)
    num = len(generators_of(model))
    assert len(generators_of(model, trainer)) == num + 2
    del trainer
    assert len(generators_of(model)) == num


def test_random_numbers_of_the_loss_are_drawn_once():
    draws = []
    for run in (
        lambda m, loss: plain_gradients(m, *make_batch(), loss),
        lambda m, loss: cached_step(m, make_batch(), loss, MICRO),
    ):
        seed()
        run(make_model(None), lambda *outputs: LOSS(*outputs) * torch.rand(()) * random.random())
        draws.append((torch.rand(3).tolist(), random.random(), np.random.rand()))
    assert draws[0] == draws[1]


class Calls:
    """State that is in neither a generator nor a buffer."""

    def __init__(self, step):
        self.number, self.step = 0, step

    def __call__(self, x):
        self.number += 1
        return x + self.step * self.number


UNKNOWN = {
    "system": lambda: Drop(lambda _, n: np.frombuffer(os.urandom(n), np.uint8) / 255),
    "generator of a script": lambda: Drop(lambda _, n: OF_A_SCRIPT.random(n)),
    "number": lambda: Calls(0.1),
    "small change": lambda: Calls(1e-9),
    "in place": lambda: lambda x: x.mul_(1.01),
    "not without a graph": lambda: lambda x: x * (1.1 if torch.is_grad_enabled() else 1.0),
}


@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_is_not_taken_back_is_an_error(kind, tower):
    model = make_model(UNKNOWN[kind], tower)
    step = CachedStep(model, LOSS, MICRO)
    seed()
    with pytest.raises(RuntimeError) as raised:
        step(*make_batch())
    assert f"the {tower} tower returned another result" in str(raised.value)
    for hint in ("micro-batch", "activation_budget='unlimited'", "torch.Generator", "buffers"):
        assert hint in str(raised.value)
    assert gradients(model) == {}  # nothing that an optimiser could take for one
    after = torch.rand(3)
    seed()
    assert torch.equal(torch.rand(3), after)


def test_error_names_the_micro_batch_and_the_remedy_works():
    class Once(nn.Module):
        """Only the eighth call, the second one for micro-batch 2, is another."""

        calls = 0

        def forward(self, x):
            self.calls += 1
            return x + 0.1 * (self.calls == 7)

    with pytest.raises(RuntimeError, match="second encoding of micro-batch 2 "):
        cached_step(make_model(Once), make_batch(), LOSS, MICRO)
    models = [make_model(lambda: Calls(0.1)) for _ in range(2)]
    plain_gradients(models[0], *make_batch(), LOSS)
    cached_step(models[1], make_batch(), LOSS, MICRO, "unlimited")
    assert_equal(gradients(models[1]), gradients(models[0]))


def test_frozen_tower_may_change_as_it_likes():
    """No gradient goes through it: the features of the loss are those of the first encoding."""
    models = [make_model(lambda: Calls(0.1)) for _ in range(2)]
    for model in models:
        model.visual.requires_grad_(False)
    plain_gradients(models[0], *make_batch(), LOSS)
    cached_step(models[1], make_batch(), LOSS, MICRO)
    assert_equal(gradients(models[1]), gradients(models[0]))


def test_scale_is_compared_too():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.change = make_model(None), Calls(0.1)

        def forward(self, images, texts):
            *features, scale = self.model(images, texts)
            return *features, self.change(scale)

    with pytest.raises(RuntimeError, match="the model's scale returned another result"):
        cached_step(Scaled(), make_batch(), LOSS, MICRO)


def test_gradient_checkpointing_and_dropout_under_autocast_go_on():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(0.5))

        def forward(self, x):
            return checkpoint(self.layer, x, use_reentrant=False)

    model = make_model(Checkpointed).float()
    other = copy.deepcopy(model)
    images, texts = (x.float() for x in make_batch())
    context = functools.partial(torch.autocast, "cpu", torch.bfloat16)
    seed()
    with context():
        parts = [model(*part) for part in zip(images.split(MICRO), texts.split(MICRO), strict=True)]
    LOSS(*(torch.cat([part[k] for part in parts]) for k in (0, 1)), parts[0][2]).backward()
    seed()
    cached_step(other, (images, texts), LOSS, MICRO, autocast=context)
    # Gradients of weights add up in another order, each rounded to bfloat16 once.
    assert_equal(gradients(other), gradients(model), rtol=4 * 2.0**-8)


@pytest.mark.parametrize(
    "name, dtype",
    [("vit", torch.float32), ("siglip", torch.bfloat16), ("resnet", torch.float64)],
)
def test_rounding_explains_other_sums_and_little_more(name, dtype):
    """The same features with every product added up in another order, in the same dtype."""
    model = build(SMALL[name]).to(dtype)
    images, tokens = inputs(SMALL[name], 4)
    with torch.no_grad():
        first = model(images.to(dtype), tokens)
        one_by_one = [model(images[i : i + 1].to(dtype), tokens[i : i + 1]) for i in range(4)]
        # In float64 there is nothing more exact to compare with: it is the same.
        exact = build(SMALL[name]).double()(images.double(), tokens)
    explained = rounding_explains(model, dtype)
    for side in (0, 1):
        second = torch.cat([part[side] for part in one_by_one])
        assert relative_difference(first[side], second) <= explained
        assert relative_difference(exact[side], first[side]) <= explained
    # It hides nothing that is much larger: half of the digits.
    assert explained < torch.finfo(dtype).eps ** 0.5


def test_other_kernels_without_a_graph_are_no_error():
    """PyTorch's own encoder has a fast path that is not taken where gradients are wanted."""

    class Fast(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True)

        def forward(self, x):
            return self.layer(x[:, None].expand(-1, 3, -1)).mean(1)

    model = make_model(Fast).float().eval()
    images, texts = (x.float() for x in make_batch())
    with torch.no_grad():
        without = model.visual(images)
    assert relative_difference(without, model.visual(images)) > 0
    cached_step(model, (images, texts), LOSS, MICRO)
    assert gradients(model)


def test_dtype_that_counts_is_the_coarsest():
    model = make_model(None).float()
    outputs = {"image_features": torch.zeros(2, 2)}
    assert coarsest(model, outputs) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert coarsest(model, outputs) == torch.bfloat16
    assert coarsest(model, {"image_features": torch.zeros(2, 2).half()}) == torch.float16
    assert coarsest(model.double(), {}) == torch.float64
    model.visual.half()
    assert coarsest(model, outputs) == torch.float16


def test_difference_is_that_of_the_worst_row_and_sees_what_is_not_finite():
    first = torch.tensor([[3.0, 4.0], [0.0, 5.0], [0.0, 0.0]])
    second = first.clone()
    assert relative_difference(first, second) == 0
    second[1, 0] = 0.5
    assert relative_difference(first, second) == pytest.approx(0.1)
    second[2, 0] = 1.0  # of no length: relative to the mean of all
    assert relative_difference(first, second) == pytest.approx(0.3)
    assert relative_difference(0 * first, second) == torch.inf
    assert relative_difference(torch.tensor(2.0), torch.tensor(3.0)) == 0.5
    for bad in (torch.nan, torch.inf):
        second[0, 0] = bad
        assert relative_difference(first, second) == torch.inf
        lost = first.clone()
        lost[0, 0] = bad
        second[1:] = lost[1:]
        assert relative_difference(lost, second) == 0
        second = first.clone()


def test_loss_that_is_not_finite_is_no_difference():
    model, (images, texts) = make_model(None), make_batch()
    images[0] = torch.nan
    assert cached_step(model, (images, texts), LOSS, MICRO).loss.isnan()


def test_objection_names_the_rank():
    assert objection([(0.0, 0, 0), (1e-7, 3, 1)], 1e-6) is None
    found = objection([(0.0, 0, 0), (0.25, 3, 1)], 1e-6)
    assert found.startswith("the text tower") and "micro-batch 3" in found and "on rank 1" in found
    assert "0.25" in found and "1e-06" in found
