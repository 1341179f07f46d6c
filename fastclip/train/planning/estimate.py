"""Says before a run how much memory it will take, as `plan.py` counts it."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fastclip.models.contrastive_model import ContrastiveModel
from fastclip.models.tower_precision import TowerPrecision
from fastclip.train.memory.activation_budget import GIB, SPARED, memory_of
from fastclip.train.planning.plan import Plan, make_plan
from fastclip.train.run.model import prepare_for_training
from fastclip.train.run.teachers import Teachers
from fastclip.train.settings.run_config import RunConfig

NOTEWORTHY = GIB / 100


def plan_of(
    config: RunConfig, model: ContrastiveModel, world_size: int, device: torch.device
) -> Plan:
    """Count the memory that a step of a run takes on each rank.

    Args:
        model: of the run; only its configuration is used.
        device: the device whose memory the step must fit into.
    """
    return make_plan(
        model.config,
        config.arithmetic(world_size).global_batch_size,
        memory_of(device),
        world_size,
        TowerPrecision(config.precision, device).name,
        config.grad_checkpointing,
        config.loss_schedule,
        lock=lambda counted: prepare_for_training(counted, config),
        is_averaged=bool(config.ema_decay),
        is_sharded=config.fsdp,
        has_key_encoder=config.queue_momentum is not None,
    )


def describe(plan: Plan, micro_batch_size: int) -> str:
    """Return a line with the memory that a step takes, by purpose, and the memory that there is."""
    graph = plan.graph(micro_batch_size)
    return (
        f"estimated memory of a rank, without libraries: {_gib(plan.weights)} for weights, "
        f"gradients and AdamW + {_gib(plan.features)} for features + "
        f"{_gib(max(graph, plan.loss))} for the larger of a micro-batch's activations "
        f"({_gib(graph)}) and the loss (up to {_gib(plan.loss)}) = "
        f"{_gib(plan.peak(micro_batch_size))} of {_gib(plan.memory)}; and {_gib(plan.pixels)} for "
        "pixels on the host"
    )


def describe_uncounted(loss: nn.Module, teachers: Teachers | None) -> str | None:
    """Return a line about memory that a run takes but `make_plan` does not count, or None."""
    sizes = {"for the state of the loss, which each step copies": _size_of(loss.buffers())}
    for teacher in () if teachers is None else teachers.computed:
        whose = f"for the weights of the teacher {teacher.ready.name}"
        sizes[whose] = sizes.get(whose, 0) + _size_of(teacher.ready.model.parameters())
    parts = [f"{_gib(size)} {what}" for what, size in sizes.items() if size >= NOTEWORTHY]
    return f"not in this estimate: {'; '.join(parts)}" if parts else None


def _size_of(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def objection(plan: Plan, micro_batch_size: int) -> str | None:
    """Return a warning that the step will probably not fit, with advice, or None."""
    if plan.peak(micro_batch_size) <= (1 - SPARED) * plan.memory:
        return None
    best = plan.micro_batch_size
    advice = "more ranks" if best is None else f"--micro-batch-size {best}"
    return f"a step will probably not fit into memory: try {advice} or --grad-checkpointing"


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"
