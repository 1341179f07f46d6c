"""The small CLIP of handwritten digits that `fastclip demo` trains, for the examples."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from fastclip import open_model
from fastclip.cli import main as fastclip_command
from fastclip.data.digits.images import DIGIT_WORDS
from fastclip.data.digits.source import LoneDigitSource
from fastclip.embeddings.encode import Encoder
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.digits import is_digits_model
from fastclip.models.inference import InferenceModel

DEMO = Path("demo-output")
WHERE = f"{DEMO}/checkpoint.pt, which `fastclip demo` writes first if it is not there (two minutes)"


def digits_model(args: argparse.Namespace) -> InferenceModel:
    """Open the given checkpoint, or the demo's checkpoint, running the demo first if necessary.

    Raises:
        SystemExit: the file is not a model of the digits, or the demo cannot run here.
    """
    path = args.checkpoint or DEMO / "checkpoint.pt"
    if not path.is_file():
        print(f"{path} does not exist; running `fastclip demo` once, which takes two minutes")
        if fastclip_command(["demo", "--output", str(DEMO)]) != 0:
            raise SystemExit(2)
    print(f"using the model {path}")
    try:
        ready = open_model(path, device="cpu")
    except (CheckpointError, ValueError) as error:
        raise SystemExit(f"{path} cannot be opened: {error}") from None
    if not is_digits_model(ready.model.config):
        raise SystemExit(f"{path} is not the model of digits that `fastclip demo` trains")
    return ready


def features_of_images(ready: InferenceModel, images: Tensor) -> Tensor:
    """Return (N, D) unit features of (N, C, H, W) uint8 images."""
    batches = ((part, None, ()) for part in images.split(256))
    return torch.cat([found.image_features for found in Encoder.of(ready).images(batches)])


def features_of_texts(ready: InferenceModel, texts: list[str]) -> Tensor:
    """Return (N, D) unit features of texts."""
    found = Encoder.of(ready).texts(texts, ready.tokenizer, 256)
    return torch.cat([batch.text_features for batch in found])


def lone_digits(ready: InferenceModel, held_out: bool) -> tuple[Tensor, Tensor]:
    """Return features of digits alone in a cell, (N, D), and their labels, (N,).

    Args:
        held_out: return digits that the model has not seen; False returns its training digits.
    """
    source = LoneDigitSource(held_out=held_out)
    samples = [source.load(number) for number in range(len(source))]
    features = features_of_images(ready, torch.stack([sample.image for sample in samples]))
    return features, torch.tensor([DIGIT_WORDS.index(sample.caption) for sample in samples])
