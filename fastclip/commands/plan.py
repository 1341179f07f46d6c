"""`fastclip plan`: count the memory of a step, and say what fits (`train/planning/plan.py`)."""

import argparse
import sys

from fastclip.data.tokenizers.openai_vocabulary import find_vocabulary
from fastclip.distributed.groups import LOSS_SCHEDULES
from fastclip.models.config import ClipConfig
from fastclip.models.presets import has_clip_vocabulary
from fastclip.models.registry import get_model_config
from fastclip.models.tower_precision import PRECISIONS
from fastclip.printable import printable_lines
from fastclip.train.memory.activation_budget import GIB, parse_bytes
from fastclip.train.planning.plan import Plan, forward_flops_per_pair, make_plan

DESCRIPTION = """\
Counts, without a GPU, how much GPU memory a training step needs, and says which micro-batch and
which settings fit. The exit status is 0 if something fits, 1 if nothing does, and 2 if the command
failed.
"""
EPILOG = """\
for example
    fastclip plan --model ViT-B-32 --global-batch-size 32768 --gpu-memory 24GiB
    fastclip plan --model ViT-L-14 --gpu-memory 80GiB --ranks 8 --fsdp --grad-checkpointing
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG

    def option(name: str, help: str, **settings) -> None:
        parser.add_argument(name, help=f"{help} The default is %(default)s.", **settings)

    parser.add_argument("--model", required=True, metavar="NAME",
        help="The name of an architecture, one of fastclip.list_models().")  # fmt: skip
    option("--global-batch-size", "The number of pairs in one loss.", type=int, default=32768,
           metavar="N")  # fmt: skip
    option("--gpu-memory", "The memory of each GPU.", default="24GiB", metavar="SIZE")
    option("--ranks", "The number of GPUs.", type=int, default=1, metavar="N")
    option("--precision", "The towers' precision, as in `fastclip train`.", choices=PRECISIONS,
           default="amp_bf16")  # fmt: skip
    parser.add_argument("--fsdp", action="store_true",
        help="Count weights and AdamW's moments as sharded over ranks (FSDP2).")  # fmt: skip
    option("--schedule", "How ranks compute the loss together.", choices=LOSS_SCHEDULES,
           default="gather")  # fmt: skip
    parser.add_argument("--grad-checkpointing", action="store_true",
        help="Count blocks as run again in the backward pass, which saves memory.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    try:
        config = get_model_config(args.model)
        _fetch_vocabulary(config)
        plan = make_plan(
            config,
            args.global_batch_size,
            parse_bytes("--gpu-memory", args.gpu_memory),
            args.ranks,
            args.precision,
            args.grad_checkpointing,
            args.schedule,
            is_sharded=args.fsdp,
        )
    except (ImportError, ValueError, OSError) as error:
        print(f"fastclip plan: {printable_lines(str(error))}", file=sys.stderr)
        return 2
    flops = forward_flops_per_pair(config)
    print(report(plan, flops, args.model, args.global_batch_size, args.ranks))
    return 0 if plan.micro_batch_size is not None else 1


def _fetch_vocabulary(config: ClipConfig) -> None:
    """Fetch the vocabulary that a run will need, or warn: the plan itself does not need it."""
    if has_clip_vocabulary(config.text_cfg):
        try:
            find_vocabulary()
        except FileNotFoundError as error:
            told = printable_lines(str(error))
            print(
                f"fastclip plan: warning: fastclip train needs a vocabulary: {told}",
                file=sys.stderr,
            )


def report(
    plan: Plan, flops_per_pair: int, model_name: str, global_batch_size: int, world_size: int
) -> str:
    best = plan.micro_batch_size
    lines = [
        f"{model_name}, {global_batch_size:,} pairs in one loss, {world_size} rank(s) of "
        f"{plan.memory / GIB:.1f} GiB; counted, not measured",
        "",
        f"  weights, gradients, AdamW      {plan.weights / GIB:8.2f} GiB",
        f"  features of all pairs          {plan.features / GIB:8.2f} GiB",
        f"  the loss itself                {plan.loss / GIB:8.2f} GiB",
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
            f"  {size:11,}{plan.graph(size) / GIB:9.2f} GiB{plan.peak(size) / GIB:9.2f} GiB"
            f"{told:>16}{forwards}{mark}"
        )
    lines.append("")
    if best is None:
        lines.append("nothing fits: try --grad-checkpointing, a smaller model, or more ranks")
        return "\n".join(lines)
    num = -(-plan.pairs_per_rank // best)
    budget = plan.kept(best) * plan.graph(best)
    again = 1 - plan.kept(best) / num
    petaflops = flops_per_pair * plan.pairs_per_rank * (3 + again) / 1e15
    lines += [
        f"--micro-batch-size {best} --activation-budget {budget / GIB:.1f}GiB",
        f"{global_batch_size:,} = {world_size} x {num:,} x {best:,} (ranks x micro-batches x size);"
        f" {petaflops:.2f} PFLOP per rank and step",
    ]
    return "\n".join(lines)


def _shown(plan: Plan) -> list[int]:
    """Return the micro-batch sizes that fit, and the smallest one that does not."""
    fitting = [size for size in plan.sizes if plan.kept(size) >= 0]
    return [*fitting, *[size for size in plan.sizes if plan.kept(size) < 0][:1]]
