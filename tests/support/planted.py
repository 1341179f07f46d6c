"""Trained models without a training: chosen texts have the features of chosen images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.inference import InferenceModel


@torch.no_grad()
def plant(ready: InferenceModel, image_of: Mapping[str, Any]) -> InferenceModel:
    """Change the text projection so that each text has the features of an image, up to rounding.

    Args:
        ready: a `CLIP`; its text tower is wider than there are texts.
        image_of: texts, and for each what the transform takes.
    """
    pixels = torch.stack([ready.transform(image) for image in image_of.values()])
    goals = ready.model.encode_image(ready.prepare(pixels), normalize=True)
    width, dim = ready.model.text_projection.shape
    tokens = ready.tokenizer(list(image_of))
    columns = []
    for eye in torch.eye(width).split(dim, dim=1):  # features are linear in the projection
        ready.model.text_projection.zero_()[:, : eye.shape[1]] = eye
        columns.append(ready.model.encode_text(tokens)[:, : eye.shape[1]])
    ready.model.text_projection.copy_(torch.linalg.lstsq(torch.cat(columns, 1), goals).solution)
    return ready


def planted_directory(path: Path, ready: InferenceModel, image_of: Mapping[str, Any]) -> Path:
    """Plant, and write the weights; return `path`."""
    save_pretrained(plant(ready, image_of).model, path)
    return path
