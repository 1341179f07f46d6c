"""Measures the memory of one forward and backward of the fused loss and of the dense loss.

The dense loss is the pseudocode of CLIP's paper: logits of all pairs, two cross-entropies. Each
loss is measured in a fresh process (`python -m` this module), after a small call that loads the
libraries. The gradients of the features, the same for both, are not counted.
"""

import json
import subprocess
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.losses.clip import ClipLoss
from fastclip.process_memory import rise_bytes

LOSSES = ("fused", "dense")
WARM_UP_BATCH = 64


def dense_loss(image_features: Tensor, text_features: Tensor, logit_scale: float) -> Tensor:
    """Return the loss, (), of (B, D) features by way of the (B, B) logits."""
    logits = logit_scale * image_features @ text_features.T
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def measure_peak_bytes(loss: str, batch_size: int, embed_dim: int, backend: str = "auto") -> int:
    """Return the peak memory of one step of `loss`, "fused" or "dense", in a fresh process.

    Raises:
        ValueError: `loss` is neither.
        RuntimeError: the process failed; the message has its last line of output.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {LOSSES}, got {loss!r}")
    request = {
        "loss": loss, "batch_size": batch_size, "embed_dim": embed_dim, "backend": backend,
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    child = subprocess.run(
        [sys.executable, "-m", __name__, json.dumps(request)], capture_output=True, text=True
    )
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines() or [f"exit status {child.returncode}"]
        raise RuntimeError(f"measuring the {loss} loss failed: {lines[-1]}")
    return int(child.stdout.split()[-1])


def _main(request: str) -> None:
    wanted = json.loads(request)
    torch.set_num_threads(wanted["threads"])
    loss = dense_loss if wanted["loss"] == "dense" else ClipLoss(backend=wanted["backend"])
    _step(loss, WARM_UP_BATCH, wanted["embed_dim"])()
    step = _step(loss, wanted["batch_size"], wanted["embed_dim"])
    gradients = 2 * wanted["batch_size"] * wanted["embed_dim"] * torch.float32.itemsize
    print(max(0, rise_bytes(step) - gradients))


def _step(loss: Callable[..., Tensor], batch_size: int, embed_dim: int) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    image_features, text_features = (
        F.normalize(torch.randn(batch_size, embed_dim, generator=generator)).requires_grad_()
        for _ in range(2)
    )
    return lambda: loss(image_features, text_features, 1 / 0.07).backward()


if __name__ == "__main__":
    _main(sys.argv[1])
