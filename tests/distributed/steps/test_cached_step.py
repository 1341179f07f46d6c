"""The cached step over ranks: DistributedDataParallel, one loss, one synchronisation, exact."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fastclip import ClipLoss, SigLipLoss
from fastclip.train.step.cached import CachedStep
from tests.support.pairwise import cover_pairs
from tests.support.small_models import SHALLOW, build, inputs

MICRO, STEPS = 3, 2


class Dropped(nn.Module):
    """A model whose features pass a dropout."""

    def __init__(self, name):
        super().__init__()
        config = SHALLOW[name]
        dropping = replace(config.vision_cfg, patch_dropout=0.5)
        self.model = build(replace(config, vision_cfg=dropping))
        self.dropout = nn.Dropout(0.3)

    def forward(self, images, tokens):
        image_features, text_features, *rest = self.model(images, tokens)
        return self.dropout(image_features), self.dropout(text_features), *rest


def make(name):
    model = Dropped(name).double().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-6)
    return model, optimizer


def share(name, step, sizes, rank):
    images, tokens = inputs(SHALLOW[name], sum(sizes), seed=step)
    rows = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    return images[rows].double(), tokens[rows]


def loss_of(name, **settings):
    kind = SigLipLoss if SHALLOW[name].init_logit_bias is not None else ClipLoss
    return kind(backend="reference", **settings)


def train_a_rank(group, name, sizes, schedule, budget, **options):
    """Optimiser steps of this rank; returns its parameters and what it kept."""
    rank = group.rank()
    model, optimizer = make(name)
    wrapped = DistributedDataParallel(model, process_group=group)
    loss = loss_of(name, process_group=group, schedule=schedule, **options)
    compute = CachedStep(wrapped, loss, MICRO, budget)
    torch.manual_seed(100 + rank)
    kept, losses = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        result = compute(*share(name, step, sizes, rank))
        kept.append((result.num_kept, result.num_micro_batches))
        losses.append(result.loss.item())
        optimizer.step()
    return [p.detach() for p in model.parameters()], kept, losses


def train_alone(name, sizes, **options):
    """The same steps in one process: every rank's micro-batches with its random numbers."""
    model, optimizer = make(name)
    loss = loss_of(name, world_size=1, **options)
    states = []
    for rank in range(len(sizes)):
        torch.manual_seed(100 + rank)
        states.append(torch.get_rng_state())
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        parts = []
        for rank in range(len(sizes)):
            torch.set_rng_state(states[rank])
            images, tokens = share(name, step, sizes, rank)
            for i in range(0, len(images), MICRO):
                parts.append(model(images[i : i + MICRO], tokens[i : i + MICRO]))
            states[rank] = torch.get_rng_state()
        features = [torch.cat([part[side] for part in parts]) for side in (0, 1)]
        value = loss(*features, *parts[0][2:])
        value.backward()
        losses.append(value.item())
        optimizer.step()
    return [p.detach() for p in model.parameters()], losses


@pytest.mark.parametrize(
    "name, sizes, schedule, budget",
    cover_pairs(
        ["vit", "siglip"], [(7,), (7, 2), (3, 8, 4)], ["gather", "ring"],
        [0, "partial", "unlimited"],
    ),
)  # fmt: skip
def test_parameters_after_the_steps_are_those_of_one_process(ranks, name, sizes, schedule, budget):
    expected, losses = train_alone(name, sizes)
    amount = budget
    if budget == "partial":
        model, _ = make(name)
        measured = CachedStep(model, loss_of(name, world_size=1), MICRO)
        amount = 1.5 * measured(*share(name, 0, sizes, 0)).kept_bytes
    for rank, (found, kept, values) in enumerate(
        ranks.run(len(sizes), train_a_rank, name, sizes, schedule, amount)
    ):
        num = -(-sizes[rank] // MICRO)
        # One of several micro-batches is encoded again, to synchronise.
        all_kept = num if num == 1 else num - 1
        steady = {0: 0, "partial": min(1, all_kept), "unlimited": all_kept}[budget]
        assert kept[1:] == [(steady, num)] * (STEPS - 1)
        assert values == pytest.approx(losses, rel=1e-12)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", ["gather", "ring"])
def test_options_of_the_loss_are_those_of_all_pairs(ranks, schedule):
    options = dict(label_smoothing=0.1, margin=0.2, directions={"image_to_text": 1.5})
    expected, losses = train_alone("vit", (7, 2), **options)
    for found, _, values in ranks.run(2, train_a_rank, "vit", (7, 2), schedule, 0, **options):
        assert values == pytest.approx(losses, rel=1e-12)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
