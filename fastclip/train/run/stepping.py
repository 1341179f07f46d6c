"""Makes the objects that take the steps of a run, from its settings, its model and its loss."""

from typing import NamedTuple

from torch import nn

from fastclip.distributed.processes import Processes
from fastclip.losses.sog_clr import SogCLRLoss
from fastclip.models.tower_precision import TowerPrecision
from fastclip.train.checkpoints.trained_state import TrainedState
from fastclip.train.run.key_encoder import KeyEncoder
from fastclip.train.run.model import RunModel
from fastclip.train.run.pixels import preparation
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.optimizer import make_optimizer
from fastclip.train.step.optimizer_step import OptimizerStep
from fastclip.train.weights.masters import NO_MASTERS, MasteredModel, MasterWeights
from fastclip.train.weights.placement import make_average, make_average_of_keys, place, wrap


class Stepping(NamedTuple):
    """Attributes:
    compute: computes the gradient of a step.
    take_step: takes the step.
    state: everything that a step changes, which checkpoints store.
    key_encoder: makes keys for the loss of a step; None if the loss needs no keys.
    """

    compute: CachedStep
    take_step: OptimizerStep
    state: TrainedState
    key_encoder: KeyEncoder | None


def make_stepping(
    config: RunConfig,
    training: StepConfig,
    run_model: RunModel,
    loss: nn.Module,
    precision: TowerPrecision,
    processes: Processes,
) -> Stepping:
    """Move the model and the loss to this rank's device, and make the objects that step them.

    Args:
        config: says how the model is placed, averaged and compiled.
        training: made from `config`.
        run_model: its model, on the CPU, is changed in place.
        loss: on the CPU.

    Raises:
        ValueError: the model cannot be sharded or averaged, see `place` and
            `make_average_of_keys`.
    """
    model, scaler = run_model.model, precision.scaler()
    average = make_average(model, config.ema_decay, config.fsdp)
    of_keys = make_average_of_keys(model, config.queue_momentum, config.fsdp, processes)
    for averaged in filter(None, (average, of_keys)):
        place(averaged.module, processes, config.fsdp)
    place(model, processes, config.fsdp)
    for part in loss.modules():
        if isinstance(part, SogCLRLoss):
            part.shard()  # before a device has to hold the averages of all samples
    loss.to(processes.device)
    if config.torchcompile:
        model.compile()
    has_masters = precision.has_masters
    masters = MasterWeights(model.named_parameters()) if has_masters else NO_MASTERS
    if of_keys is not None:
        of_keys.update_parameters(MasteredModel(model, masters))  # begins with the model's weights
    optimizer = make_optimizer(model, training, masters, loss)
    compute = CachedStep(
        wrap(model, processes),
        loss,
        config.arithmetic(processes.world_size).micro_batch_size,
        config.activation_budget,
        autocast=precision.autocast,
        scaler=scaler,
        prepare=preparation(run_model, processes.device, precision),
    )
    take_step = OptimizerStep(compute, optimizer, training, average, masters, of_keys)
    counts = take_step.counts
    state = TrainedState(model, optimizer, scaler, average, masters, counts, loss, of_keys)
    key_encoder = None
    if of_keys is not None:
        of_average = precision.of_float32()
        prepare = preparation(run_model, processes.device, of_average)
        key_encoder = KeyEncoder(of_keys, prepare, of_average.autocast)
    return Stepping(compute, take_step, state, key_encoder)
