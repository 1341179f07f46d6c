"""Counts the memory of a GPU that a step takes, and finds what fits. It needs no GPU.

    weights       the parameters and, if they are trained, their gradients and AdamW's two averages:
                  16 bytes each in float32. With bf16 and fp16, matrices take 2 bytes, and 16 for a
                  float32 master with its gradient and averages. An average of the weights takes 4
                  bytes more each, and so does the encoder of a queue's keys. FSDP2 shards all of
                  this over ranks except the gradients, which are whole while micro-batches add up
    a graph       the activations that the forward of a micro-batch saves for its backward, counted
                  by running the model itself on tensors without data
    features      of all N pairs, both sides, and their gradients: 16 N D bytes, and as much again
                  for each further rank's share that the loss gathers (schedule "gather"); keys of
                  another encoder take 8 N D
    loss          6 N D bytes and blocks of 256 MiB (`triton`, see docs/backends.md)
    spared        a tenth, because allocators fragment and libraries need workspaces

The largest micro-batch for which all of this fits is the fastest. The memory that is left is the
activation budget: micro-batches whose graphs are kept need no second forward.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from fastclip.models.config import ClipConfig
from fastclip.models.factory import build_model
from fastclip.models.precision import set_precision
from fastclip.models.tower_precision import PRECISIONS, TowerPrecision
from fastclip.train.memory.activation_budget import SPARED, measure_kept
from fastclip.train.step.model_call import call
from fastclip.train.weights.masters import DTYPES_OF_16_BITS

LOSS_BLOCKS = 256 * 2**20
MICRO_BATCH_SIZES = tuple(2**i for i in range(13))


@dataclass(frozen=True)
class Plan:
    """The memory that a step takes on each rank, in bytes.

    Attributes:
        memory: of a GPU.
        weights: parameters, gradients and optimiser.
        features: of all pairs, with their gradients.
        loss: beyond the features.
        graph_constant, graph_per_pair: of a micro-batch's graph.
        sizes: of the micro-batches that are considered.
        pixels: uint8, of this rank's pairs, on the host.
        pairs_per_rank: this rank's share of the global batch.
    """

    memory: float
    weights: int
    features: int
    loss: int
    graph_constant: int
    graph_per_pair: int
    sizes: tuple[int, ...]
    pixels: int
    pairs_per_rank: int

    def graph(self, micro_batch_size: int) -> int:
        """Return the bytes of the graph of one micro-batch."""
        return self.graph_constant + micro_batch_size * self.graph_per_pair

    def peak(self, micro_batch_size: int) -> float:
        """Return the bytes at the worst moment of a step that keeps no graph."""
        fixed = self.weights + self.features
        return fixed + max(self.graph(micro_batch_size), self.loss)

    def kept(self, micro_batch_size: int) -> int:
        """Return how many micro-batches' graphs fit as well; -1 if the step itself does not fit."""
        left = (1 - SPARED) * self.memory - self.peak(micro_batch_size)
        if left < 0:
            return -1
        num = -(-self.pairs_per_rank // micro_batch_size)
        return min(int(left // self.graph(micro_batch_size)), num)

    @property
    def micro_batch_size(self) -> int | None:
        """The largest micro-batch that fits, or None."""
        fitting = [size for size in self.sizes if self.kept(size) >= 0]
        return max(fitting, default=None)


def make_plan(
    config: ClipConfig,
    global_batch_size: int,
    memory: float,
    world_size: int = 1,
    precision: str = "amp_bf16",
    grad_checkpointing: bool = False,
    schedule: str = "gather",
    lock: Callable[[nn.Module], None] = lambda model: None,
    is_averaged: bool = False,
    is_sharded: bool = False,
    has_key_encoder: bool = False,
) -> Plan:
    """Count the memory that a step takes; see the module.

    Args:
        lock: freezes the parameters that are not to be trained.
        is_averaged: there is an average of the weights.
        is_sharded: the weights are sharded over ranks, see `sharding.py`.
        has_key_encoder: another average of the weights makes the keys of a queue.

    Raises:
        ValueError: a size is not positive, the batch is smaller than the number of ranks, or
            `precision` is unknown.
    """
    if not 1 <= world_size <= global_batch_size:
        raise ValueError(
            f"global_batch_size must be at least world_size, and world_size at least 1, got "
            f"{global_batch_size} and {world_size}"
        )
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    pairs = -(-global_batch_size // world_size)
    towers = TowerPrecision(precision, torch.device("cpu"))
    with FakeTensorMode():
        model = set_precision(build_model(config), towers.parameters)
        model.set_grad_checkpointing(grad_checkpointing)
        lock(model)
        # Two sizes suffice: a graph has a constant part (weights in 16 bits) and a part per sample.
        one, two = (_graph_bytes(model, size, towers) for size in (1, 2))
    gradients, kept = _bytes_of_weights(model, towers.has_masters, is_averaged + has_key_encoder)
    weights = gradients + (kept // world_size if is_sharded else kept)
    gathered = global_batch_size if schedule == "gather" else pairs
    width = config.embed_dim
    height_width = config.vision_cfg.image_size
    return Plan(
        memory=memory,
        weights=weights,
        features=8 * width * (pairs + gathered + (pairs if has_key_encoder else 0)),
        loss=6 * gathered * width + LOSS_BLOCKS,
        graph_constant=2 * one - two,
        graph_per_pair=two - one,
        sizes=(*[size for size in MICRO_BATCH_SIZES if size < pairs], pairs),
        pixels=pairs * 3 * height_width[0] * height_width[1],
        pairs_per_rank=pairs,
    )


def forward_flops_per_pair(config: ClipConfig) -> int:
    """Count the floating-point operations of one forward of both towers."""
    towers = TowerPrecision("fp32", torch.device("cpu"))
    with FakeTensorMode(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = build_model(config)
        call(model, *_batch(model, 1, towers))
    return counter.get_total_flops()


def _bytes_of_weights(model: nn.Module, has_masters: bool, num_averages: int) -> tuple[int, int]:
    """Return the bytes of gradients, and of what stays between steps: parameters, masters, AdamW's
    averages, and averages of the weights."""
    gradients = kept = 0
    for p in model.parameters():
        in_float32 = 4 * p.numel()
        kept += p.nbytes + num_averages * in_float32
        if not p.requires_grad:
            continue
        is_mastered = has_masters and p.dtype in DTYPES_OF_16_BITS
        stepped = in_float32 if is_mastered else p.nbytes
        gradients += stepped  # a gradient in 16 bits is dropped as it is converted
        kept += 2 * stepped + (in_float32 if is_mastered else 0)
    return gradients, kept


def _graph_bytes(model: nn.Module, size: int, towers: TowerPrecision) -> int:
    images, tokens = _batch(model, size, towers)

    def forward():
        with towers.autocast():
            return call(model, images, tokens)

    _, kept = measure_kept(forward, [*model.parameters(), images, tokens])
    return kept


def _batch(model: nn.Module, size: int, towers: TowerPrecision) -> tuple[Tensor, Tensor]:
    config = model.config
    channels = getattr(config.vision_cfg, "channels", 3)
    shape = (size, channels, *config.vision_cfg.image_size)
    images = torch.empty(shape, dtype=towers.input_dtype)
    return images, torch.zeros(size, config.text_cfg.context_length, dtype=torch.int64)
