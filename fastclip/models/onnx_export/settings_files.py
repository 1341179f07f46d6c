"""Writing the files next to the towers: preprocessing, tokenizer and configuration.

Source: open_clip's JSON of a model and of its images.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastclip.data.preprocess import PreprocessCfg
from fastclip.data.quoting import quoted
from fastclip.data.tokenizers.tokenizer_check import TokenizerCheck, check_tokenizer_json
from fastclip.data.tokenizers.tokenizer_json import write_tokenizer_json
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.open_clip_preprocess import PREPROCESS, to_open_clip_preprocess
from fastclip.models.clip_config import ClipConfig
from fastclip.models.inference import InferenceModel
from fastclip.models.onnx_export.packages import is_installed
from fastclip.models.open_clip_config import to_json


def write_settings(directory: Path, ready: InferenceModel) -> TokenizerCheck | None:
    """Write the settings of images and texts, and the model's configuration, in open_clip's JSON.

    Returns:
        How `tokenizer.json` compares with the tokenizer, or None if the package tokenizers is not
        installed.

    Raises:
        CheckpointError: `tokenizer.json` has other ids than the tokenizer, or open_clip's JSON
            cannot describe how images are prepared.
        TypeError, ValueError: the tokenizer cannot be written.
    """
    _write_json(directory / "config.json", _configuration(ready))
    _write_json(directory / "visual" / "preprocess_cfg.json", _preprocessing(ready))
    textual = directory / "textual"
    write_tokenizer_json(ready.tokenizer, textual)
    if not is_installed("tokenizers"):
        return None
    check = check_tokenizer_json(ready.tokenizer, textual)
    if check.wrong:
        raise CheckpointError(
            f"tokenizer.json would give other ids than the tokenizer of {ready.name} to "
            f"{len(check.wrong)} of {check.num_texts} texts, such as {quoted(check.wrong[0])}"
        )
    return check


def _configuration(ready: InferenceModel) -> dict[str, Any]:
    config = getattr(ready.model, "config", None)
    if isinstance(config, ClipConfig):
        return to_json(config)
    # For encoders of any kind, no more is known; and programs need no more.
    return {
        "vision_cfg": {"image_size": ready.preprocess_cfg["size"]},
        "text_cfg": {"context_length": ready.tokenizer.context_length},
    }


def _preprocessing(ready: InferenceModel) -> dict[str, Any]:
    if "resize_mode" not in ready.preprocess_cfg:
        return ready.preprocess_cfg
    cfg = PreprocessCfg.from_dict(ready.preprocess_cfg)
    if cfg.interpolation == "random":
        cfg = replace(cfg, interpolation="bicubic")  # as "random" means outside of training
    return to_open_clip_preprocess(cfg)[PREPROCESS]


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
