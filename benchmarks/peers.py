"""Other implementations of the same loss, called as their users call them.

    open_clip              `ClipLoss` and `SigLipLoss` of the installed release
    transformers           the loss of `CLIPModel`, on logits formed as its forward forms them
    linear_cross_entropy   torch's own, which holds no logits, once per direction
    checkpoint             the usual solution in plain PyTorch: CHUNK_ROWS rows at a time, which
                           torch.utils.checkpoint recomputes in the backward

A function that takes no features builds a loss: it imports the library and returns the loss.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.torchvision import make_importable

CHUNK_ROWS = 1024


def open_clip() -> Callable[..., Tensor]:
    return open_clip_losses().ClipLoss()


def open_clip_siglip() -> Callable[..., Tensor]:
    return open_clip_losses().SigLipLoss()


def open_clip_losses() -> ModuleType:
    # The package needs torchvision and timm to import; the file with its losses needs only torch.
    package = importlib.util.find_spec("open_clip")
    path = Path(package.submodule_search_locations[0]) / "loss.py"
    spec = importlib.util.spec_from_file_location("open_clip_loss", path)
    module = importlib.util.module_from_spec(spec)
    # torch.compile imports the modules of what it inlines by their names.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def transformers() -> Callable[..., Tensor]:
    make_importable()
    from transformers.models.clip import modeling_clip

    # Releases before 5 call it clip_loss.
    name = "image_text_contrastive_loss"
    loss_of_logits = getattr(modeling_clip, name, None) or modeling_clip.clip_loss

    def loss(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
        return loss_of_logits(torch.matmul(text_features, image_features.t()) * logit_scale)

    return loss


def linear_cross_entropy(chunk_rows: int | None = None) -> Callable[[], Callable[..., Tensor]]:
    """Build torch's loss; torch chooses the size of its chunks unless `chunk_rows` is given."""

    def loss(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=chunk_rows)
        labels = torch.arange(len(image_features), device=image_features.device)

        def one_direction(rows: Tensor, cols: Tensor) -> Tensor:
            return F.linear_cross_entropy(logit_scale * rows, cols, labels, options=options)

        image_loss = one_direction(image_features, text_features)
        return (image_loss + one_direction(text_features, image_features)) / 2

    return lambda: loss


def lacks_linear_cross_entropy(case: Case) -> str | None:
    if hasattr(F, "linear_cross_entropy") and hasattr(torch.nn, "LinearCrossEntropyOptions"):
        return None
    return f"torch {torch.__version__} has no chunked linear_cross_entropy"


def checkpoint_one_pass(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor
) -> Tensor:
    """Use each chunk of logits for both directions; merge the columns' parts by logsumexp."""

    def chunk_lse(images: Tensor, texts: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        logits = (scale * images @ texts.T).float()
        return logits.logsumexp(1), logits.logsumexp(0)

    parts = [
        checkpoint(chunk_lse, images, text_features, logit_scale, use_reentrant=False)
        for images in image_features.split(CHUNK_ROWS)
    ]
    row_lse = torch.cat([row_part for row_part, _ in parts])
    col_lse = torch.stack([col_part for _, col_part in parts]).logsumexp(0)
    positive = logit_scale * (image_features * text_features).float().sum(1)
    return ((row_lse + col_lse) / 2 - positive).mean()


def checkpoint_two_passes(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor
) -> Tensor:
    """Compute each direction by itself; every chunk of rows is a cross-entropy."""

    def chunk_loss(rows: Tensor, cols: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
        return F.cross_entropy((scale * rows @ cols.T).float(), labels, reduction="sum")

    labels = torch.arange(len(image_features), device=image_features.device)
    total = logit_scale.new_zeros(())
    for rows, cols in ((image_features, text_features), (text_features, image_features)):
        for chunk, targets in zip(rows.split(CHUNK_ROWS), labels.split(CHUNK_ROWS), strict=True):
            total = total + checkpoint(
                chunk_loss, chunk, cols, targets, logit_scale, use_reentrant=False
            )
    return total / (2 * len(image_features))
