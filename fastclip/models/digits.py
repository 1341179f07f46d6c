"""The small model for the built-in images of digits, which two CPU cores can train."""

from dataclasses import replace

import torch

from fastclip.data.digits.grids import IMAGE_SIZE, DigitGrids
from fastclip.data.digits.images import load_digits, split_by_image
from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.models.clip import CLIP
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.models.factory import build_model

NAME = "digits"
EMBED_DIM = 128
CAPTIONS_TO_LEARN_FROM = 1000  # they hold every word many times over


def build_digits_model(patch_dropout: float = 0.0) -> tuple[CLIP, WordTokenizer]:
    """Return the model of the digits, with random weights and in training mode, and its tokenizer.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    tokenizer = tokenizer_of_digits()
    config = digits_config(tokenizer)
    vision = replace(config.vision_cfg, patch_dropout=patch_dropout)
    return build_model(replace(config, vision_cfg=vision)), tokenizer


def is_digits_model(config: ClipConfig) -> bool:
    """Whether a configuration is of the digits' model: no other model takes such images."""
    vision = config.vision_cfg
    return getattr(vision, "channels", 3) == 1 and vision.image_size == IMAGE_SIZE


def tokenizer_of_digits() -> WordTokenizer:
    """Return the tokenizer of the captions of the training digits.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    digits, _ = split_by_image(load_digits())
    return digits_tokenizer(DigitGrids(digits))


def digits_tokenizer(grids: DigitGrids) -> WordTokenizer:
    """Return a tokenizer that knows the words of the captions of `grids`."""
    drawn = grids.draw(CAPTIONS_TO_LEARN_FROM, torch.Generator().manual_seed(0))
    return WordTokenizer.learn(drawn.captions)


def digits_config(tokenizer: WordTokenizer) -> ClipConfig:
    """Return the configuration: one patch per cell of a grid, two layers in each tower."""
    vision = VisionConfig(IMAGE_SIZE, patch_size=8, width=96, layers=2, head_width=16, channels=1)
    text = TextConfig(tokenizer.context_length, tokenizer.vocab_size, width=64, heads=4, layers=2)
    return ClipConfig(EMBED_DIM, vision, text)
