"""A small model under DistributedDataParallel, and the same model alone on the whole batch.

Two linear layers for each side, near the identity: features are then nearly the inputs, which are
those of `benchmarks/cases.py`, and gradients of weights mix those of all features.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn.parallel import DistributedDataParallel

import fastclip
from fastclip.benchmarks.cases import make_features
from tests.support import exact
from tests.support.inputs import square

D = 8


@dataclass(frozen=True)
class Training:
    """One step: `sizes` are the pairs of each rank; `str(training)` is its name."""

    loss: str
    schedule: str
    sizes: tuple[int, ...]
    scale: float = 14.3
    data: str = "random"
    normalize: bool = False
    frozen: str | None = None  # "image" or "text"
    backend: str = "reference"

    def __str__(self) -> str:
        sizes = "+".join(map(str, self.sizes))
        normalize = "-normalize" if self.normalize else ""
        frozen = f"-{self.frozen}-frozen" if self.frozen else ""
        return (
            f"{self.loss}-{self.schedule}-{sizes}-scale{self.scale:g}-{self.data}{normalize}"
            f"{frozen}-{self.backend}"
        )


class Towers(nn.Module):
    def __init__(self, training: Training) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.normalize = not training.normalize
        self.image, self.text = _encoder(generator), _encoder(generator)
        self.log_scale = nn.Parameter(torch.tensor(training.scale, dtype=torch.float64).log())
        if training.loss == "siglip":
            self.bias = nn.Parameter(torch.tensor(-7.0, dtype=torch.float64))
        if training.frozen is not None:
            getattr(self, training.frozen).requires_grad_(False)

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, ...]:
        # Where the loss normalises, features of other lengths.
        features = 2.0 * self.image(images), 3.0 * self.text(texts)
        if self.normalize:
            features = tuple(F.normalize(x, dim=1) for x in features)
        bias = (self.bias,) if hasattr(self, "bias") else ()
        return *features, self.log_scale.exp(), *bias


def _encoder(generator: torch.Generator) -> nn.Sequential:
    layers = [nn.Linear(D, D, dtype=torch.float64) for _ in range(2)]
    for layer in layers:
        for parameter in (layer.weight, layer.bias):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = 0.02 * noise + (torch.eye(D) if parameter.dim() == 2 else 0.0)
    return nn.Sequential(*layers)


def batch(training: Training) -> tuple[Tensor, Tensor]:  # (N, D), (N, D)
    return make_features(square(sum(training.sizes), D), training.data, torch.float64)


def step_alone(training: Training) -> tuple[Tensor, dict[str, Tensor]]:
    """The truth: loss and gradients of the whole batch in one process, in plain PyTorch."""
    model = Towers(training)
    loss = getattr(exact, f"{training.loss}_loss")
    value = loss(*model(*batch(training)), normalize=training.normalize)
    value.backward()
    return value.detach(), _gradients(model)


def step_of_rank(group: ProcessGroup, training: Training) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and, after DDP's mean, the gradients of every parameter on this rank."""
    model = DistributedDataParallel(Towers(training), process_group=group)
    own = [x.split(training.sizes)[group.rank()] for x in batch(training)]
    loss = getattr(fastclip, f"{training.loss}_loss")
    value = loss(
        *model(*own),
        normalize=training.normalize,
        backend=training.backend,
        process_group=group,
        schedule=training.schedule,
    )
    value.backward()
    return value.detach(), _gradients(model.module)


def _gradients(model: Towers) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
