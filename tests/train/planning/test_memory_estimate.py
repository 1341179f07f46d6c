"""The memory a run says it will take, against what its step takes."""

import dataclasses
import functools
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from fastclip import ClipLoss, QueueLoss
from fastclip.commands.train import say_what_it_takes
from fastclip.process_memory import rise_bytes
from fastclip.train.memory.activation_budget import GIB
from fastclip.train.planning import estimate
from fastclip.train.planning.estimate import describe, describe_uncounted, objection, plan_of
from fastclip.train.run.teacher import Teacher
from fastclip.train.run.teachers import Teachers
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.optimizer import make_optimizer
from tests.support.runs import server
from tests.support.small_models import SMALL, build, inputs

CPU = torch.device("cpu")
PAIRS, MICRO = 512, 128


@functools.cache
def plan(**settings):
    config = RunConfig(global_batch_size=PAIRS, micro_batch_size=MICRO, **settings)
    return plan_of(config, build(SMALL["vit"]), 1, CPU)


def without_loss(found):
    """The loss may take blocks of 256 MiB on a GPU; in a small step they would be nearly all."""
    return dataclasses.replace(found, loss=0)


def rise_of_a_step():
    """Bytes by which a process that has made a small step grows in a large one."""
    torch.set_num_threads(2)
    model = build(SMALL["vit"]).train()
    optimizer = make_optimizer(model, StepConfig(batch_size=PAIRS, steps=1))
    step = CachedStep(model, lambda images, texts, scale: (images * texts).sum() * scale, MICRO)
    step(*inputs(SMALL["vit"], 4))  # libraries take their buffers; gradients are there from now on
    optimizer.step()
    batch = inputs(SMALL["vit"], PAIRS)
    return rise_bytes(lambda: step(*batch))


@pytest.mark.slow
def test_step_takes_what_was_counted():
    """On top come what a layer's backward holds for a moment, a large part of only three layers."""
    counted = without_loss(plan())
    with ProcessPoolExecutor(1, server()) as fresh:
        rise = fresh.submit(rise_of_a_step).result()
    assert 0.95 < (rise + counted.weights) / counted.peak(MICRO) < 1.6


def test_settings_of_the_run_are_counted():
    plain = plan()
    assert plan(lock_image=True).weights < plain.weights < plan(ema_decay=0.9).weights
    assert plan(loss="queue", queue_momentum=0.9).weights == plan(ema_decay=0.9).weights
    assert plan(grad_checkpointing=True).graph(256) < plain.graph(256)
    assert plan(precision="amp_bf16").graph(256) < plain.graph(256)


def test_line_has_the_parts_and_their_sum():
    found = dataclasses.replace(plan(), memory=24 * GIB, weights=2 * GIB, features=GIB // 2)
    line = describe(found, 256)
    total = found.peak(256) / GIB
    assert "2.00 GiB for weights, gradients and AdamW + 0.50 GiB for features" in line
    assert f"= {total:.2f} GiB of 24.00 GiB" in line


def test_a_run_says_it_before_it_starts(monkeypatch):
    """In other tests runs do not: it would be half of what they take (tests/support/runs.py)."""
    config = RunConfig(global_batch_size=PAIRS, micro_batch_size=PAIRS, precision="fp32")
    run = SimpleNamespace(
        model=build(SMALL["vit"]), arithmetic=config.arithmetic(1), loss=ClipLoss(), teachers=None
    )  # fmt: skip
    monkeypatch.setattr(estimate, "memory_of", lambda device: GIB / 8)  # what is free changes
    counted = plan_of(config, run.model, 1, CPU)
    said, warned = [], []
    log = SimpleNamespace(say=said.append, warn=warned.append)
    processes = SimpleNamespace(world_size=1, device=CPU)
    say_what_it_takes(config, run, processes, log)
    assert said == [describe(counted, PAIRS)]
    assert warned == [objection(counted, PAIRS)] != [None]


def test_what_does_not_fit_is_told_with_what_would():
    small = without_loss(plan())
    assert objection(small, 256) is None
    tight = dataclasses.replace(small, memory=small.peak(64) / 0.9 + 1)
    assert "--micro-batch-size 64 or --grad-checkpointing" in objection(tight, 1024)
    none = dataclasses.replace(small, memory=small.weights)
    assert "more ranks" in objection(none, 256)


def test_what_a_loss_remembers_and_a_teacher_takes_is_told_apart():
    queue = QueueLoss(64, 2**17, symmetric=True)  # 2 x 32 MiB
    model = torch.nn.Linear(2**12, 2**12, bias=False)  # 64 MiB
    teachers = Teachers([Teacher(SimpleNamespace(name="large", model=model))])
    assert describe_uncounted(queue, teachers) == (
        "not in this estimate: 0.06 GiB for the state of the loss, which each step copies; "
        "0.06 GiB for the weights of the teacher large"
    )
    assert describe_uncounted(ClipLoss(), None) is None
