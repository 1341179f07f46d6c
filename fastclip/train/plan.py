"""`fastclip plan`: what a step takes of a GPU's memory, and what fits. No GPU needed.

    weights       4 bytes per parameter, and 4 for its gradient, 8 for AdamW's averages
    a graph       what the forward of a micro-batch saves for its backward, counted on tensors
                  without data, which run the model itself
    features      of all N pairs, both sides, and their gradients: 16 N D bytes, and as much again
                  for each further rank's share that the loss gathers (schedule "gather")
    loss          6 N D bytes and blocks of 256 MiB (backend "triton", see README)
    spared        a tenth: allocators fragment, libraries need workspaces

The largest micro-batch for which this fits is the one to take: it is the fastest. What is left is
the activation budget: graphs that are kept need no second forward.
"""

import argparse
import sys
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from fastclip.distributed.groups import SCHEDULES
from fastclip.models.config import ClipConfig
from fastclip.models.factory import build_model
from fastclip.models.registry import get_model_config
from fastclip.train.activation_budget import SPARED, measure_kept, parse_bytes

BYTES_PER_PARAMETER = 16  # weight, gradient, two averages, float32
LOSS_BLOCKS = 256 * 2**20
MICRO_BATCH_SIZES = tuple(2**i for i in range(13))
PRECISIONS = ("fp32", "amp_bf16")
GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """What a step takes on each rank, in bytes.

    Attributes:
        memory: of a GPU.
        weights: parameters, gradients and optimiser.
        features: of all pairs, with their gradients.
        loss: beyond features.
        graphs: by micro-batch size, of one micro-batch; those that were looked at.
        pixels: uint8, of this rank's pairs, on the host.
        flops_per_pair: of one forward of both towers.
        pairs_per_rank: this rank's share of the global batch.
    """

    memory: float
    weights: int
    features: int
    loss: int
    graphs: dict[int, int]
    pixels: int
    flops_per_pair: int
    pairs_per_rank: int

    def peak(self, micro_batch_size: int) -> float:
        """Bytes at the worst moment of a step that keeps no graph."""
        fixed = self.weights + self.features
        return fixed + max(self.graphs[micro_batch_size], self.loss)

    def kept(self, micro_batch_size: int) -> int:
        """Micro-batches whose graphs fit beside that; -1 if the step itself does not fit."""
        left = (1 - SPARED) * self.memory - self.peak(micro_batch_size)
        if left < 0:
            return -1
        num = -(-self.pairs_per_rank // micro_batch_size)
        return min(int(left // self.graphs[micro_batch_size]), num)

    @property
    def micro_batch_size(self) -> int | None:
        """The largest that fits, or None."""
        fitting = [size for size in self.graphs if self.kept(size) >= 0]
        return max(fitting, default=None)


def make_plan(
    config: ClipConfig,
    global_batch_size: int,
    memory: float,
    world_size: int = 1,
    precision: str = "amp_bf16",
    grad_checkpointing: bool = False,
    schedule: str = "gather",
) -> Plan:
    """Count what a step takes; see the module.

    Raises:
        ValueError: a size is not positive, the batch is smaller than the number of ranks, or
            `precision` is unknown.
    """
    if not 1 <= world_size <= global_batch_size:
        raise ValueError(
            f"global_batch_size {global_batch_size} must be at least world_size {world_size} >= 1"
        )
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    pairs = -(-global_batch_size // world_size)
    with FakeTensorMode():
        model = build_model(config)
        model.set_grad_checkpointing(grad_checkpointing)
        sizes = [s for s in MICRO_BATCH_SIZES if s < pairs] + [pairs]
        # Two sizes tell all: a graph is a constant (weights in 16 bits) and a part per sample.
        one, two = (_graph_bytes(model, size, precision) for size in (1, 2))
        graphs = {size: one + (size - 1) * (two - one) for size in sizes}
        flops = _forward_flops(model)
    num_parameters = sum(p.numel() for p in model.parameters())
    gathered = global_batch_size if schedule == "gather" else pairs
    width = config.embed_dim
    height_width = config.vision_cfg.image_size
    return Plan(
        memory=memory,
        weights=BYTES_PER_PARAMETER * num_parameters,
        features=8 * width * (pairs + gathered),
        loss=6 * gathered * width + LOSS_BLOCKS,
        graphs=graphs,
        pixels=pairs * 3 * height_width[0] * height_width[1],
        flops_per_pair=flops,
        pairs_per_rank=pairs,
    )


def _graph_bytes(model: torch.nn.Module, size: int, precision: str) -> int:
    images, tokens = _batch(model, size)

    def forward():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "amp_bf16"):
            return model(images, tokens)

    _, kept = measure_kept(forward, [*model.parameters(), images, tokens])
    return kept


def _forward_flops(model: torch.nn.Module) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*_batch(model, 1))
    return counter.get_total_flops()


def _batch(model: torch.nn.Module, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    config = model.config
    channels = getattr(config.vision_cfg, "channels", 3)
    images = torch.empty(size, channels, *config.vision_cfg.image_size)
    return images, torch.zeros(size, config.text_cfg.context_length, dtype=torch.int64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def option(name: str, help: str, **settings) -> None:
        parser.add_argument(name, help=f"{help} (default: %(default)s)", **settings)

    parser.add_argument("--model", required=True, metavar="NAME", help="see fastclip.list_models()")
    option("--global-batch-size", "pairs in one loss", type=int, default=32768, metavar="N")
    option("--gpu-memory", "of each GPU", default="24GiB", metavar="SIZE")
    option("--ranks", "GPUs", type=int, default=1, metavar="N")
    option("--precision", "of the towers", choices=PRECISIONS, default="amp_bf16")
    option("--schedule", "of the loss over ranks", choices=SCHEDULES, default="gather")
    parser.add_argument("--grad-checkpointing", action="store_true",
        help="blocks are run again in the backward")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    try:
        plan = make_plan(
            get_model_config(args.model),
            args.global_batch_size,
            parse_bytes("gpu_memory", args.gpu_memory),
            args.ranks,
            args.precision,
            args.grad_checkpointing,
            args.schedule,
        )
    except (ValueError, OSError) as error:
        print(f"fastclip plan: {error}", file=sys.stderr)
        return 2
    print(report(plan, args.model, args.global_batch_size, args.ranks))
    return 0 if plan.micro_batch_size is not None else 1


def report(plan: Plan, model_name: str, global_batch_size: int, world_size: int) -> str:
    best = plan.micro_batch_size
    lines = [
        f"{model_name}, {global_batch_size:,} pairs in one loss, {world_size} rank(s) of "
        f"{plan.memory / GIB:.1f} GiB; counted, not measured",
        "",
        f"  weights, gradients, AdamW      {plan.weights / GIB:8.2f} GiB",
        f"  features of all pairs          {plan.features / GIB:8.2f} GiB",
        f"  loss beyond them               {plan.loss / GIB:8.2f} GiB",
        f"  uint8 pixels, on the host      {plan.pixels / GIB:8.2f} GiB",
        "",
        "  micro-batch        graph         peak     graphs kept   forwards per sample",
    ]
    for size in _shown(plan):
        num = -(-plan.pairs_per_rank // size)
        kept = plan.kept(size)
        told = "does not fit" if kept < 0 else f"{kept:,} of {num:,}"
        forwards = "" if kept < 0 else f"{2 - kept / num:18.2f}"
        mark = " <" if size == best else ""
        lines.append(
            f"  {size:11,}{plan.graphs[size] / GIB:9.2f} GiB{plan.peak(size) / GIB:9.2f} GiB"
            f"{told:>16}{forwards}{mark}"
        )
    lines.append("")
    if best is None:
        lines.append("nothing fits: try --grad-checkpointing, a smaller model, or more ranks")
        return "\n".join(lines)
    num = -(-plan.pairs_per_rank // best)
    budget = plan.kept(best) * plan.graphs[best]
    again = 1 - plan.kept(best) / num
    petaflops = plan.flops_per_pair * plan.pairs_per_rank * (3 + again) / 1e15
    lines += [
        f"--micro-batch-size {best} --activation-budget {budget / GIB:.1f}GiB",
        f"{global_batch_size:,} = {world_size} x {num:,} x {best:,} (ranks x micro-batches x size);"
        f" {petaflops:.2f} PFLOP per rank and step",
    ]
    return "\n".join(lines)


def _shown(plan: Plan) -> list[int]:
    """What fits, and the next that does not."""
    fitting = [size for size in plan.graphs if plan.kept(size) >= 0]
    return [*fitting, *[size for size in plan.graphs if plan.kept(size) < 0][:1]]
