"""Layouts of a folder with ONNX towers, one for each program that reads such a folder.

    immich  visual/model.onnx, visual/preprocess_cfg.json, textual/model.onnx,
            textual/tokenizer.json, textual/tokenizer_config.json, config.json
    rclip   visual.onnx, textual.onnx; the tokenizer and how images are prepared are rclip's own

Source: immich's machine-learning service (its readers of CLIP models, and its exporter); rclip 4's
converter and downloader of models.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from fastclip.data.preprocess import PreprocessCfg
from fastclip.data.tokenizers.byte_pairs import BytePairTokenizer
from fastclip.data.tokenizers.openai_vocabulary import SHA256
from fastclip.models.inference import InferenceModel

RCLIP_SIZE, RCLIP_FEATURES = 256, 512  # the sizes of the one model that rclip knows
NO_FILES = "its images are not RGB images from files"


@dataclass(frozen=True)
class OnnxLayout:
    """The places of the files in a folder, and the inputs and outputs of the towers.

    Attributes:
        files: the files of the towers, by "image" and "text", relative to the folder.
        inputs: the names of the towers' inputs, by "image" and "text".
        output: the name of the output of both towers.
        token_type: the dtype of the ids of texts.
        brings_settings: whether the folder holds tokenizer, preprocessing and configuration.
        objections: lists why the program would give a model wrong inputs; empty for most models.
    """

    files: dict[str, str]
    inputs: dict[str, str]
    output: str
    token_type: torch.dtype
    brings_settings: bool
    objections: Callable[[InferenceModel], list[str]]


def _of_immich(ready: InferenceModel) -> list[str]:
    if not _has_files(ready):
        return [NO_FILES]
    cfg = PreprocessCfg.from_dict(ready.preprocess_cfg)
    found = {
        "its images do not have three channels": getattr(ready.model.visual, "channels", 3) != 3,
        "its images are not square": cfg.height_width[0] != cfg.height_width[1],
        f"its resize_mode is {cfg.resize_mode!r}": cfg.resize_mode == "longest",
    }
    return [what for what, holds in found.items() if holds]


def _of_rclip(ready: InferenceModel) -> list[str]:
    tokenizer = ready.tokenizer
    is_openais = (
        isinstance(tokenizer, BytePairTokenizer)
        and tokenizer.vocabulary.sha256 == SHA256
        and (tokenizer.clean, tokenizer.context_length) == ("lower", 77)
    )
    found = [] if is_openais else ["its tokenizer is not OpenAI's, with lower case and 77 tokens"]
    if getattr(ready.model.visual, "output_dim", None) != RCLIP_FEATURES:
        found.append(f"its features do not have {RCLIP_FEATURES} numbers")
    if not _has_files(ready):
        return [*found, NO_FILES]
    cfg = PreprocessCfg.from_dict(ready.preprocess_cfg)
    usual = PreprocessCfg((RCLIP_SIZE, RCLIP_SIZE), fill_color=cfg.fill_color)
    interpolation = "bicubic" if cfg.interpolation == "random" else cfg.interpolation
    if replace(cfg, size=cfg.height_width, interpolation=interpolation) != usual:
        found.append(
            f"its images do not have {RCLIP_SIZE} x {RCLIP_SIZE} pixels, or are not resized "
            "bicubically by their shortest side, or do not have OpenAI's mean and std"
        )
    return found


def _has_files(ready: InferenceModel) -> bool:
    """Whether images come from files, and are prepared as open_clip's JSON can describe."""
    return "resize_mode" in ready.preprocess_cfg


LAYOUTS = {
    "immich": OnnxLayout(
        files={"image": "visual/model.onnx", "text": "textual/model.onnx"},
        inputs={"image": "image", "text": "text"},
        output="embedding",
        token_type=torch.int32,
        brings_settings=True,
        objections=_of_immich,
    ),
    "rclip": OnnxLayout(
        files={"image": "visual.onnx", "text": "textual.onnx"},
        inputs={"image": "input", "text": "input"},
        output="output",
        token_type=torch.int64,
        brings_settings=False,
        objections=_of_rclip,
    ),
}
