"""Compare trainers with the same command line, model, weights and pairs.

    python -m fastclip.benchmarks.trainers --global-batch-size 2048 --micro-batch-size 128

The trainers run from their command lines, in turns with rotating order: `fastclip train` with an
activation budget of 0 and with an unlimited one, and open_clip's trainer with `--accum-freq`. The
time of a step comes from the log (`Batch (t)`, from the end of one step to the end of the next,
including data); the first step is a warm-up and does not count. The table has the median over
rounds of the ratio of a round's medians. Memory is the high-water mark of the process.

Pairs are images of digits as PNG files in a table. No crop is random, and one epoch is one batch,
so that with equal weights the losses of the first steps must agree, whatever the order of pairs.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from PIL import Image

from fastclip.benchmarks.results import write_measurement
from fastclip.benchmarks.timing import median_ratio, rotated
from fastclip.data.digits.grids import IMAGE_SIZE, DigitGrids
from fastclip.data.digits.images import load_digits, split_by_image
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.models.factory import build_model, create_model

# The model of the built-in digits, but for colour images and CLIP's vocabulary.
SMALL = ClipConfig(
    128,
    VisionConfig(IMAGE_SIZE, patch_size=8, width=96, layers=2, head_width=16),
    TextConfig(context_length=24, vocab_size=49408, width=64, heads=4, layers=2),
)
# The module of each trainer, and its first arguments.
OURS = ["fastclip.cli", "train"]
THEIRS = ["fastclip.benchmarks.open_clip_trainer"]
TRAINERS = {
    "fastclip, budget 0": [*OURS, "--activation-budget", "0"],
    "fastclip, unlimited": [*OURS, "--activation-budget", "unlimited"],
    "open_clip": THEIRS,
}
BASELINE = "open_clip"
STEP = re.compile(r"Batch \(t\): ([\d.]+).* Loss: ([\d.]+) \(")


@dataclass
class Trained:
    """One run: seconds and losses of its steps, and the process's peak memory."""

    seconds: list[float]
    losses: list[float]
    peak_bytes: int


def prepare(directory: Path, model_name: str | None, num_pairs: int) -> list[str]:
    """Write weights and pairs into `directory`; return the flags that tell trainers their paths."""
    torch.manual_seed(0)
    model = build_model(SMALL) if model_name is None else create_model(model_name)
    save_pretrained(model, directory / "model")
    digits, _ = split_by_image(load_digits())
    pairs = DigitGrids(digits).draw(num_pairs, torch.Generator().manual_seed(0))
    (directory / "images").mkdir()
    rows = ["filepath\ttitle"]
    for i, (pixels, caption) in enumerate(zip(pairs.images, pairs.captions, strict=True)):
        path = directory / "images" / f"{i}.png"
        Image.fromarray(pixels[0].numpy()).save(path)
        rows.append(f"{path}\t{caption}")
    (directory / "pairs.csv").write_text("\n".join(rows) + "\n")
    return [
        "--train-data", str(directory / "pairs.csv"), "--dataset-type", "csv",
        "--model", f"local-dir:{directory / 'model'}", "--aug-cfg", "scale=(1.0, 1.0)",
    ]  # fmt: skip


def settings(global_batch_size: int, micro_batch_size: int, num_steps: int) -> list[str]:
    """Return flags that all trainers understand in the same way."""
    values = {
        "batch-size": micro_batch_size, "accum-freq": global_batch_size // micro_batch_size,
        "epochs": num_steps, "lr": 1e-3, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6, "wd": 0.2,
        "warmup": 2, "precision": "fp32", "device": "cpu", "workers": 0, "seed": 0,
        "log-every-n-steps": 1, "save-frequency": 0,
    }  # fmt: skip
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def train(command: list[str], flags: list[str], logs: Path, threads: int) -> Trained:
    """Run a trainer in its own process.

    Raises:
        RuntimeError: the trainer failed; the message has the end of its output.
    """
    name = "run"
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    peak = logs / "peak"
    argv = [sys.executable, "-m", "fastclip.process_memory", str(peak), *command, *flags]
    argv += ["--logs", str(logs), "--name", name]
    with open(logs / "said", "w+") as said:
        done = subprocess.run(argv, stdout=said, stderr=subprocess.STDOUT, env=environment)
        said.seek(0)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command[:2])} failed: {said.read()[-2000:]}")
    steps = STEP.findall((logs / name / "out.log").read_text())
    seconds, losses = zip(*[(float(t), float(loss)) for t, loss in steps], strict=True)
    return Trained(list(seconds), list(losses), int(peak.read_text()))


def measure(
    model_name: str | None,
    global_batch_size: int,
    micro_batch_size: int,
    num_steps: int,
    rounds: int,
    threads: int,
) -> dict[str, dict]:
    """Return each trainer's median seconds of a step in every round, losses and peak memory."""
    results: dict[str, dict] = {
        name: {"seconds": [], "losses": [], "peak_bytes": []} for name in TRAINERS
    }
    with tempfile.TemporaryDirectory() as scratch:
        flags = prepare(Path(scratch), model_name, global_batch_size)
        flags += settings(global_batch_size, micro_batch_size, num_steps)
        for number in range(rounds):
            for name in rotated(list(TRAINERS), number):
                with tempfile.TemporaryDirectory() as logs:
                    done = train(TRAINERS[name], flags, Path(logs), threads)
                results[name]["seconds"].append(median(done.seconds[1:]))
                results[name]["losses"] = done.losses
                results[name]["peak_bytes"].append(done.peak_bytes)
                print(f"{name}: {results[name]['seconds'][-1]:.3f} s", file=sys.stderr)
    return results


def table(results: dict[str, dict]) -> str:
    theirs = results[BASELINE]
    lines = [
        "| | s per step | over open_clip | peak memory, MiB | losses of the first steps |",
        "|---|---|---|---|---|",
    ]
    for name, row in results.items():
        lines.append(
            f"| {name} | {median(row['seconds']):.3f} | "
            f"{median_ratio(row['seconds'], theirs['seconds']):.2f} | "
            f"{median(row['peak_bytes']) / 2**20:.0f} | "
            f"{', '.join(f'{loss:.4f}' for loss in row['losses'][:3])} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fastclip.benchmarks.trainers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", metavar="NAME", help="default: a small model, like the demo's")
    parser.add_argument("--global-batch-size", type=int, default=2048, metavar="N")
    parser.add_argument("--micro-batch-size", type=int, default=128, metavar="N")
    parser.add_argument("--steps", type=int, default=4, metavar="N", help="the first is a warm-up")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write DIR/<device>/<date>-...")
    args = parser.parse_args(argv)
    if args.global_batch_size % args.micro_batch_size or args.steps < 2:
        parser.error(
            "--global-batch-size must be a multiple of --micro-batch-size, and --steps at least 2"
        )
    results = measure(
        args.model, args.global_batch_size, args.micro_batch_size, args.steps, args.rounds,
        args.threads,
    )  # fmt: skip
    print(table(results))
    if args.output is not None:
        name = f"trainers-{args.model or 'small'}-{args.global_batch_size}"
        print(write_measurement(args.output, name, __spec__.name, argv, results), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
