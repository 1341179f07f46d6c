"""What a run is going to take of the memory, said before it starts: counted as `plan.py` does."""

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
    """Count what a step of a run takes on each rank.

    Args:
        model: of the run; its configuration is counted.
        device: whose memory it has to fit.
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
    """One line: what a step takes, of what, and where the rest goes."""
    graph = plan.graph(micro_batch_size)
    return (
        f"memory of a rank, counted: {_gib(plan.weights)} weights, gradients, AdamW + "
        f"{_gib(plan.features)} features + {_gib(max(graph, plan.loss))} (a micro-batch's graph "
        f"{_gib(graph)}, the loss up to {_gib(plan.loss)}) = {_gib(plan.peak(micro_batch_size))} "
        f"of {_gib(plan.memory)}, libraries not counted; {_gib(plan.pixels)} of pixels on the host"
    )


def describe_uncounted(loss: nn.Module, teachers: Teachers | None) -> str | None:
    """One line about what a run holds beside what `make_plan` counts, or None."""
    sizes = {"that the loss remembers, of which a step holds a copy": _size_of(loss.buffers())}
    for teacher in () if teachers is None else teachers.computed:
        whose = f"weights of {teacher.ready.name}, which teaches"
        sizes[whose] = sizes.get(whose, 0) + _size_of(teacher.ready.model.parameters())
    parts = [f"{_gib(size)} {what}" for what, size in sizes.items() if size >= NOTEWORTHY]
    return f"not counted: {'; '.join(parts)}" if parts else None


def _size_of(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def objection(plan: Plan, micro_batch_size: int) -> str | None:
    """Why the step is not going to fit, and what would, or None."""
    if plan.peak(micro_batch_size) <= (1 - SPARED) * plan.memory:
        return None
    best = plan.micro_batch_size
    advice = "more ranks" if best is None else f"--micro-batch-size {best}"
    return f"this will hardly fit: try {advice} or --grad-checkpointing"


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"
