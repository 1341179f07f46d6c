"""Models to ask, as files, small enough for a test each: of the digits, and of coloured images."""

from dataclasses import replace
from pathlib import Path

import torch

from fastclip.data.preprocess import PreprocessCfg
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.config import ClipConfig, NaflexConfig, TextConfig, VisionConfig
from fastclip.models.digits import build_digits_model
from fastclip.models.factory import build_model
from fastclip.models.open_clip_config import to_json

TINY = ClipConfig(
    16, VisionConfig(32, patch_size=16, width=32, layers=1, head_width=32),
    TextConfig(context_length=16, vocab_size=49408, width=32, heads=1, layers=1),
)  # fmt: skip


def digits_checkpoint(path: Path, seed: int = 0) -> Path:
    """Write a checkpoint of the digits' model with random weights, as the demo's; return `path`."""
    torch.manual_seed(seed)
    model, _ = build_digits_model()
    content = {"state_dict": model.state_dict(), "model_config": to_json(model.config)}
    torch.save(content | {"config": {"model": "digits"}}, path)
    return path


def tiny_directory(path: Path, seed: int = 0, **preprocess) -> Path:
    """Write a directory of a model for images of 32 pixels and OpenAI's tokens; return `path`."""
    torch.manual_seed(seed)
    model = build_model(TINY)
    cfg = PreprocessCfg(32, **preprocess)
    model.visual.preprocess_cfg = cfg.to_dict()
    save_pretrained(model, path)
    return path


TINY_NAFLEX = ClipConfig(
    32, NaflexConfig(64, patch_size=16, width=32, layers=1, heads=2, position_grid=(4, 4)),
    replace(TINY.text_cfg, width=32), custom_text=True,
)  # fmt: skip


def naflex_checkpoint(path: Path, seed: int = 0) -> Path:
    """Write a checkpoint, as of a run, of a model for images of up to 16 patches; return `path`."""
    torch.manual_seed(seed)
    model = build_model(TINY_NAFLEX)
    content = {"state_dict": model.state_dict(), "model_config": to_json(TINY_NAFLEX)}
    content["preprocess_cfg"] = TINY_NAFLEX.vision_cfg.preprocess().to_dict()
    torch.save(content | {"config": {"model": "ViT-B-32"}}, path)
    return path
