"""Accelerate: plain and cached steps, accumulation, mixed precision, and two ranks."""

import warnings
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastclip
from fastclip.integrations.accelerate import cached_step
from fastclip.train.step.model_call import call
from tests.hosts.integrations.models import (
    Pairs,
    as_a_rank,
    check_gradients,
    loss_and_gradients,
    loss_of,
    make,
)

pytestmark = pytest.mark.filterwarnings("default")
accelerate = pytest.importorskip("accelerate")
SIZE = 4


@pytest.fixture(autouse=True)
def no_process_of_before():
    """Accelerate keeps what it found in a process, for all accelerators."""
    accelerate.state.AcceleratorState._reset_state(True)
    yield
    accelerate.state.AcceleratorState._reset_state(True)


def gradients_of(accumulated, cut, name="clip", mixed_precision="no", part=lambda rows: rows):
    """Of one step of the optimiser over `accumulated` batches, of which a rank has a `part`."""
    accelerator = accelerate.Accelerator(
        gradient_accumulation_steps=accumulated,
        mixed_precision=mixed_precision,
        cpu=True,
    )
    dtype = torch.float64 if mixed_precision == "no" else torch.float32
    bare = make(name).to(dtype)
    model, optimizer = accelerator.prepare(bare, torch.optim.SGD(bare.parameters(), lr=0.0))
    loss_fn = fastclip.SigLipLoss() if name == "siglip" else fastclip.ClipLoss()
    step = None if cut is None else cached_step(accelerator, model, loss_fn, cut)
    for rows in all_rows(accumulated, part):
        batch = Pairs(1000).batch(rows)
        images, texts = {"pixel_values": batch.pop("pixel_values").to(dtype)}, batch
        with accelerator.accumulate(model):
            if step is None:
                accelerator.backward(loss_fn(*call(model, images, texts).values()))
            else:
                step(images, texts)
            optimizer.step()
    return {n: p.grad for n, p in bare.named_parameters() if p.grad is not None}


def all_rows(accumulated, part=lambda rows: rows):
    return [part(slice(i * 2 * SIZE, (i + 1) * 2 * SIZE)) for i in range(accumulated)]


@pytest.mark.parametrize(
    ("accumulated", "cut", "name"),
    [(1, None, "clip"), (2, None, "siglip"), (1, 3, "siglip"), (3, 3, "clip")],
)
def test_gradient_is_the_mean_over_accumulated_batches(accumulated, cut, name):
    found = gradients_of(accumulated, cut, name)
    _, expected = loss_and_gradients(name, make(name), Pairs(1000), all_rows(accumulated))
    check_gradients(found, expected)


class Lines(nn.Module):
    """Towers that take no time to compile."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.images, self.texts = nn.Linear(5, 4).double(), nn.Linear(6, 4).double()
        self.logit_scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, images, texts):
        features = F.normalize(self.images(images), dim=1), F.normalize(self.texts(texts), dim=1)
        return *features, self.logit_scale.exp()


def test_compiled_model_is_one_graph():
    torch.manual_seed(1)
    images, texts = torch.randn(7, 5).double(), torch.randn(7, 6).double()
    plain, bare = Lines(), Lines()
    loss_of("clip")(*plain(images, texts)).backward()
    plugin = accelerate.utils.TorchDynamoPlugin(backend="eager", fullgraph=True)
    accelerator = accelerate.Accelerator(cpu=True, dynamo_plugin=plugin)
    model = accelerator.prepare(bare)
    cached_step(accelerator, model, fastclip.ClipLoss(), 3)(images, texts)
    assert isinstance(model._orig_mod, Lines)
    found = {n: p.grad for n, p in bare.named_parameters()}
    check_gradients(found, {n: p.grad for n, p in plain.named_parameters()})


def test_bfloat16():
    _, expected = loss_and_gradients("clip", make("clip"), Pairs(1000), all_rows(1))
    check_gradients(gradients_of(1, 3, mixed_precision="bf16"), expected, rtol=0.1)


class Drifting(Lines):
    """Towers whose second encoding differs as much as bfloat16 rounds, and float32 does not."""

    calls = 0

    def forward(self, images, texts):
        self.calls += 1
        images, texts, scale = super().forward(images, texts)
        return images * (1 + 8e-3 * (self.calls > 3)), texts, scale


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_second_encodings_are_compared_by_the_rounding_of_autocast(mixed_precision):
    torch.manual_seed(1)
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision=mixed_precision)
    model = accelerator.prepare(Drifting().float())
    step = cached_step(accelerator, model, fastclip.ClipLoss(), 3)
    refused = pytest.raises(RuntimeError, match="in the second encoding")
    with refused if mixed_precision == "no" else nullcontext():
        step(torch.randn(7, 5), torch.randn(7, 6))


def of_a_rank(group, accumulated, cut):
    as_a_rank(group)
    warnings.simplefilter("ignore")
    from tests.hosts.integrations import test_accelerate

    test_accelerate.accelerate.state.AcceleratorState._reset_state(True)

    def part(rows):
        start = rows.start + group.rank() * SIZE
        return slice(start, start + SIZE)

    return test_accelerate.gradients_of(accumulated, cut, part=part)


@pytest.mark.parametrize(("accumulated", "cut"), [(1, None), (2, 3)])
def test_two_ranks_are_one_batch(two_ranks, accumulated, cut):
    _, expected = loss_and_gradients("clip", make("clip"), Pairs(1000), all_rows(accumulated))
    for found in two_ranks.run(2, of_a_rank, accumulated, cut):
        check_gradients(found, expected)


def test_gathered_features_have_no_gradient_which_is_why_nothing_gathers_them(two_ranks):
    """If this fails, Accelerate gathers with gradients, and the warning in the docs may go."""
    assert two_ranks.run(2, gather_a_rank) == [False, False]


def gather_a_rank(group):
    as_a_rank(group)
    accelerator = accelerate.Accelerator(cpu=True)
    return accelerator.gather(torch.ones(2, 3, requires_grad=True) * 2).requires_grad
