"""Check and measure the cached step and the trainer on this device.

gradients     gradients of a cached step, in float32 with patch dropout, for every budget, equal
              the gradients of a plain step with the same random numbers
run           `fastclip train` on synthetic images with bfloat16, a weight average, pinned batches
              and a worker; a run resumed in the middle of an epoch ends with the same weights
step          seconds and peak memory of a step of ViT-B-32, next to the counts of `fastclip plan`;
              for every GPU backend, the later ones at the first size only
"""

import dataclasses
import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from fastclip import ClipLoss
from fastclip.benchmarks.gpu.kernels import kernels_on
from fastclip.benchmarks.gpu.worker import Check, run_checks, sign_of_life, synchronize
from fastclip.benchmarks.trainers import SMALL
from fastclip.cli import main
from fastclip.data.pixels import standardize
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.config import ClipConfig
from fastclip.models.factory import build_model
from fastclip.models.registry import get_model_config
from fastclip.train.checkpoints.store import CheckpointStore
from fastclip.train.memory.activation_budget import memory_of
from fastclip.train.planning.plan import make_plan
from fastclip.train.step.cached import CachedStep

TOLERANCE = 1e-4  # of float32 sums in another order, relative to the largest of a gradient
# Pairs of a batch and of a micro-batch; for a rehearsal, and for a GPU.
SIZES = {True: [(32, 8)], False: [(8192, 1024), (32_768, 1024)]}
CHUNKS = 4  # distinct micro-batches of a timed step, as all images would fill the host


def run(device: str, without: list[str], small: bool = False) -> None:
    """Run the stage, without the backends of kernels that crashed a process."""
    run_checks(every_check(torch.device(device), without, small), device)


def every_check(device: torch.device, without: list[str], small: bool) -> Iterator[Check]:
    config = SMALL if small or device.type == "cpu" else get_model_config("ViT-B-32")
    yield Check("gradients", functools.partial(gradients, config, device))
    yield Check("run", functools.partial(resumed_run, device))
    first, *others = backends(device, without)
    steps = [(first, *size, budget) for size in SIZES[small] for budget in (0, "auto")]
    # The loss takes a hundredth of the time of a step.
    steps += [(backend, *SIZES[small][0], "auto") for backend in others]
    for backend, N, micro, budget in steps:
        name = f"step {N} in micro-batches of {micro}, budget {budget}, {backend}"
        yield Check(name, functools.partial(step, config, device, backend, N, micro, budget))


def backends(device: torch.device, without: list[str]) -> list[str]:
    if device.type == "cpu":
        return ["auto"]
    found = kernels_on("cuda", torch.bfloat16)
    dead = {kernels.backend for kernels in found if str(kernels) in without}
    alive = dict.fromkeys(kernels.backend for kernels in found)
    return [backend for backend in alive if backend not in dead] or ["auto"]


@torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
def gradients(config: ClipConfig, device: torch.device) -> dict:
    dropping = dataclasses.replace(config.vision_cfg, patch_dropout=0.5)
    torch.manual_seed(0)
    model = build_model(dataclasses.replace(config, vision_cfg=dropping)).to(device).train()
    batches = [_batch(config, 8, device, seed) for seed in range(4)]
    loss = ClipLoss(backend="reference")
    torch.manual_seed(1)
    parts = [model(_prepare(images), tokens) for images, tokens in batches]
    loss(*[torch.cat([part[side] for part in parts]) for side in (0, 1)], parts[0][2]).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    found = {}
    for budget in ("0", "two", "unlimited"):
        compute = CachedStep(model, loss, 8, 0, prepare=_prepare)
        model.zero_grad()
        torch.manual_seed(1)
        result = compute.over(batches)
        if budget != "0":  # the first step has measured the size of a graph
            compute.budget = 2.5 * result.kept_bytes if budget == "two" else float("inf")
            model.zero_grad()
            torch.manual_seed(1)
            result = compute.over(batches)
        found[budget] = max(
            ((p.grad - e).abs().max() / e.abs().max().clamp(min=1e-12)).item()
            for p, e in zip(model.parameters(), expected, strict=True)
        )
        kept = {"0": 0, "two": 2, "unlimited": 4}[budget]
        if result.num_kept != kept:
            return {"passed": False, "reason": f"{result.num_kept} graphs kept, not {kept}"}
    return {"passed": max(found.values()) < TOLERANCE, "errors": found}


def resumed_run(device: torch.device) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        torch.manual_seed(0)
        save_pretrained(build_model(SMALL), directory / "model")
        argv = [
            "train", "--dataset-type", "synthetic", "--train-num-samples", "96", "--model",
            f"local-dir:{directory / 'model'}", "--global-batch-size", "32", "--micro-batch-size",
            "8", "--epochs", "1", "--warmup", "1", "--workers", "1", "--device", device.type,
            "--save-every-steps", "1", "--keep-last", "99", "--ema-decay", "0.9",
            "--grad-clip-norm", "1.0", "--logs", scratch, "--name",
        ]  # fmt: skip
        if main([*argv, "whole"]) != 0:
            return {"passed": False, "reason": "the run failed"}
        store = CheckpointStore(directory / "whole" / "checkpoints", None)
        sign_of_life("the whole run")
        (middle,) = [path for path in store.paths() if path.name == "step_000000001.pt"]
        if main([*argv, "again", "--resume", str(middle)]) != 0:
            return {"passed": False, "reason": "the run that was resumed failed"}
        ends = [
            CheckpointStore(directory / name / "checkpoints", None).newest().content["state_dict"]
            for name in ("whole", "again")
        ]
        # The gradients of keys' biases are pure noise, which AdamW magnifies.
        names = [name for name in ends[0] if not name.endswith("in_proj_bias")]
        worst = max((ends[0][name] - ends[1][name]).abs().max().item() for name in names)
    # Sums by atomics, as in the gradient of an embedding, have different bits in every run.
    return {"passed": worst < (1e-3 if device.type == "cuda" else 1e-12), "errors": {"end": worst}}


def step(
    config: ClipConfig, device: torch.device, backend: str, N: int, micro: int, budget: str | int
) -> dict:
    torch.manual_seed(0)
    model = build_model(config).to(device).train()
    precision = "amp_bf16" if device.type == "cuda" else "fp32"
    chunks = [_batch(config, micro, device, seed, on_host=True) for seed in range(CHUNKS)]
    batches = [chunks[i % CHUNKS] for i in range(N // micro)]
    compute = CachedStep(
        model, ClipLoss(backend=backend), micro, budget,
        autocast=lambda: torch.autocast(device.type, torch.bfloat16, device.type == "cuda"),
        prepare=lambda images: _prepare(images.to(device, non_blocking=True)),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), fused=device.type == "cuda")
    seconds = []
    for _ in range(3):
        synchronize(device.type)
        started = time.perf_counter()
        optimizer.zero_grad()
        result = compute.over(batches)
        optimizer.step()
        synchronize(device.type)
        seconds.append(time.perf_counter() - started)
    counted = make_plan(config, N, memory_of(device), precision=precision)
    return {
        "seconds": min(seconds[1:]),
        "num_kept": result.num_kept,
        "num_micro_batches": result.num_micro_batches,
        "graph_gib": result.kept_bytes / 2**30,
        "counted_graph_gib": counted.graph(micro) / 2**30,
        "peak_gib": _peak(device) / 2**30,
        "counted_peak_gib": counted.peak(micro) / 2**30,
    }


def _batch(
    config: ClipConfig, size: int, device: torch.device, seed: int, on_host: bool = False
) -> tuple[Tensor, Tensor]:
    """Return uint8 images, in pinned host memory if asked, and captions of up to 20 tokens."""
    generator = torch.Generator().manual_seed(seed)
    height_width = config.vision_cfg.image_size
    images = torch.randint(
        256, (size, 3, *height_width), generator=generator, dtype=torch.uint8
    )  # fmt: skip
    tokens = torch.zeros(size, config.text_cfg.context_length, dtype=torch.int64)
    lengths = torch.randint(4, 21, (size,), generator=generator)
    for row, length in zip(tokens, lengths.tolist(), strict=True):
        row[: length - 1] = torch.randint(1, 40_000, (length - 1,), generator=generator)
        row[length - 1] = config.text_cfg.vocab_size - 1
    if on_host:
        return images.pin_memory() if device.type == "cuda" else images, tokens.to(device)
    return images.to(device), tokens.to(device)


def _prepare(images: Tensor) -> Tensor:
    return standardize(images, 0.5, 0.25)


def _peak(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return peak
