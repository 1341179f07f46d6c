"""A model whose features say what it was asked: image or text number i has the vector e_i."""

import torch
from PIL import Image
from torch import Tensor, nn

from fastclip.data.images import load_image
from fastclip.models.inference import InferenceModel
from fastclip.models.tower_precision import TowerPrecision

DIM = 128


class _Numbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor | None, tokens: Tensor | None) -> tuple:
        pixels = None if images is None else (images[:, 0, 0, 0] * 255).round().long()
        return _one_hot(pixels), _one_hot(None if tokens is None else tokens[:, 0]), None


def numbered_model(name: str = "numbers") -> InferenceModel:
    """Images have their number in their red, as `pair_files.image_bytes`; texts end with it."""
    cfg = {"size": 1, "mean": 0.0, "std": 1.0}
    precision = TowerPrecision("fp32", torch.device("cpu"))
    return InferenceModel(name, _Numbers().eval(), _tokens, _pixel, cfg, precision)


def _one_hot(numbers: Tensor | None) -> Tensor | None:
    return None if numbers is None else nn.functional.one_hot(numbers % DIM, DIM).float()


def _pixel(source: object) -> Tensor:
    image = source if isinstance(source, Image.Image) else load_image(source)
    return torch.tensor(image.convert("RGB").getpixel((0, 0)), dtype=torch.uint8)[:, None, None]


def _tokens(texts: list[str]) -> Tensor:
    return torch.tensor([[int(text.split()[-1]) if text.split() else 0] for text in texts])
