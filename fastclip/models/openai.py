"""OpenAI's interface to CLIP: `load`, `available_models`, a model that returns logits.

    model, preprocess = fastclip.load("ViT-B/32", device=device)
    logits_per_image, logits_per_text = model(image, fastclip.tokenize(texts))

Code that uses the inside of OpenAI's models works on these models too: transformers, blocks and
attention take (T, B, width), the blocks of the text tower keep their causal mask, and `resblocks`
can be called.

Source: README and `clip.py` of openai/CLIP.
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from fastclip.data.preprocess import EvaluationTransform, PreprocessCfg, image_transform_v2
from fastclip.models.build import build_model
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.files import OPENAI_EXTRAS
from fastclip.models.checkpoints.stored_model import StoredModel, read_stored_model
from fastclip.models.clip import CLIP
from fastclip.models.clip_config import ClipConfig
from fastclip.models.fetch import fetch_openai
from fastclip.models.model_settings import get_model_preprocess_cfg, set_model_preprocess_cfg
from fastclip.models.precision import set_precision
from fastclip.models.presets import preprocess_of
from fastclip.models.pretrained import list_pretrained_models_by_tag
from fastclip.models.published import OPENAI_FILES
from fastclip.models.registry import open_clip_name
from fastclip.models.tracing import trace_model

Heads = int | tuple[int, int] | None


class LogitsCLIP(CLIP):
    """`CLIP` like OpenAI's own: it returns logits, for inference, and blocks take (T, B, width).

    Attributes:
        attn_mask: the (context_length, context_length) mask of the text tower's blocks. Each block
            has it as its own `attn_mask`; setting it here sets it in all of them.
    """

    def __init__(self, config: ClipConfig, output_dict: bool = False) -> None:
        super().__init__(config, output_dict)
        self.transformer.become_sequence_first()
        self.visual.become_sequence_first()

    @property
    def attn_mask(self) -> Tensor | None:
        return self.transformer.resblocks[0].attn_mask

    @attn_mask.setter
    def attn_mask(self, attn_mask: Tensor | None) -> None:
        for block in self.transformer.resblocks:
            block.attn_mask = attn_mask

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, C) logits of B images and C texts, and their transpose."""
        return self.get_logits(image, text)

    def initialize_parameters(self) -> None:
        """Reset all parameters to random values, as in a new model."""
        self.load_state_dict(type(self)(self.config).state_dict())

    def _keep_mask(self, is_causal: bool) -> None:
        super()._keep_mask(is_causal=False)  # each block has its own mask
        self.attn_mask = self.build_attention_mask() if is_causal else None

    def _mask_for(self, x: Tensor) -> None:
        return None


def available_models() -> list[str]:
    """Return the names that `load` takes, in OpenAI's spelling.

    Example:
        >>> fastclip.available_models()[:2]
        ['RN50', 'RN101']
    """
    return list(OPENAI_FILES)


def load(
    name: str | PathLike,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | PathLike | None = None,
    activation: str | None = None,
    precision: str | None = None,
    heads: Heads = None,
) -> tuple[LogitsCLIP, EvaluationTransform]:
    """Load a CLIP model, in evaluation mode, and the transform of its images.

    Args:
        name: one of `available_models()`, or the path of a file or directory that
            `read_stored_model` reads; without a configuration the architecture is inferred.
        device: by default the GPU if there is one.
        jit: return the TorchScript program of `trace_model` instead.
        download_root: where OpenAI's files are kept; ~/.cache/clip by default.
        activation: "quick_gelu" or "gelu", for weights that do not say their activation.
        heads: the attention heads of both towers, or of the vision and of the text tower, for
            weights that do not say them and are not of a published model's sizes.
        precision: see `precision.py`; by default OpenAI's choice, "fp16" on a GPU and "fp32"
            elsewhere.

    Raises:
        ValueError: there is no such model.
        FileNotFoundError: there is no such file or directory.
        CheckpointError: the weights cannot be fetched or read, do not say their activation or
            heads, or are not of a CLIP model.

    Example:
        >>> model, preprocess = fastclip.load("ViT-B/32")            # or "epoch_32.pt"
        >>> features = model.encode_image(preprocess(image)[None])
    """
    model = _load(LogitsCLIP, name, device, download_root, activation, precision, heads)
    preprocess = PreprocessCfg.from_dict(get_model_preprocess_cfg(model))
    program = trace_model(model, batch_size=2, device=_device(device)) if jit else model
    return program, image_transform_v2(preprocess, is_train=False)


def list_openai_models() -> list[str]:
    """Return the names that `load_openai_model` takes, in open_clip's spelling.

    Example:
        >>> "ViT-B-32" in fastclip.list_openai_models()
        True
    """
    return list_pretrained_models_by_tag("openai")


def load_openai_model(
    name: str | PathLike,
    precision: str | None = None,
    device: str | torch.device | None = None,
    cache_dir: str | PathLike | None = None,
) -> CLIP:
    """Load a model of OpenAI's as open_clip does: without a transform, and returning features.

    Args:
        name: one of `list_openai_models()` or of `available_models()`, or a path.
        precision, device: see `load`.
        cache_dir: where OpenAI's files are kept; ~/.cache/clip by default.

    Raises:
        as `load`.

    Example:
        >>> model = fastclip.load_openai_model("ViT-B-32", device="cpu")
    """
    names = {open_clip_name(known): known for known in OPENAI_FILES}
    known = names.get(str(name).removesuffix("-quickgelu"), name)
    # Weights that do not say their activation are assumed to be OpenAI's.
    return _load(CLIP, known, device, cache_dir, "quick_gelu", precision)


def build_model_from_openai_state_dict(
    state_dict: Mapping[str, Tensor],
    quick_gelu: bool = True,
    cast_dtype: torch.dtype = torch.float16,
    *,
    heads: Heads = None,
) -> CLIP:
    """Build the model that a state dict of OpenAI's describes, in evaluation mode.

    Args:
        state_dict: tensors under OpenAI's names, without wrappers.
        quick_gelu: whether the activation is QuickGELU or GELU, which the tensors do not show.
        cast_dtype: the dtype of the matrices: float16 as in OpenAI's models, bfloat16 or float32.
        heads: see `load`; not needed for a state dict with OpenAI's three sizes in it.

    Raises:
        CheckpointError: the tensors are not of a CLIP model, or do not determine its heads.
        ValueError: `cast_dtype` is another dtype.

    Example:
        >>> state_dict = torch.load("vit.pt", weights_only=True)
        >>> model = build_model_from_openai_state_dict(state_dict, cast_dtype=torch.float32)
    """
    precisions = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
    if cast_dtype not in precisions:
        raise ValueError(f"cast_dtype must be one of {list(precisions)}, got {cast_dtype}")
    stored = _bare(state_dict)
    config = stored.config_or_inferred("quick_gelu" if quick_gelu else "gelu", heads)
    return set_precision(_made(CLIP, config, stored), precisions[cast_dtype])


def build_openai_model(state_dict: Mapping[str, Tensor], *, heads: Heads = None) -> LogitsCLIP:
    """Build a model as OpenAI's `build_model`: it returns logits and has its matrices in float16.

    The model is in evaluation mode.

    Args:
        heads: see `build_model_from_openai_state_dict`.

    Raises:
        CheckpointError: the tensors are not of a CLIP model, or do not determine its heads.

    Example:
        >>> model = fastclip.build_model(torch.load("ViT-B-32-state-dict.pt"))
    """
    stored = _bare(state_dict)
    model = _made(LogitsCLIP, stored.config_or_inferred("quick_gelu", heads), stored)
    return set_precision(model, "fp16")


def _load(
    model_class: type[CLIP],
    name: str | PathLike,
    device: str | torch.device | None,
    download_root: str | PathLike | None,
    activation: str | None,
    precision: str | None,
    heads: Heads = None,
) -> CLIP:
    device = _device(device)
    if str(name) in OPENAI_FILES:
        path = fetch_openai(str(name), download_root)
        activation = "quick_gelu"
    elif Path(name).exists():
        path = Path(name)
    else:
        raise ValueError(
            f"there is no model {name!r}: it is neither a path nor one of {available_models()}"
        )
    stored = read_stored_model(path)
    config = stored.config_or_inferred(activation, heads)
    if config.custom_text:
        raise CheckpointError(f"{name} is not a CLIP model of OpenAI's kind: use create_model")
    if precision is None:
        precision = "fp16" if device.type == "cuda" else "fp32"
    return set_precision(_made(model_class, config, stored), precision).to(device)


def _bare(state_dict: Mapping[str, Tensor]) -> StoredModel:
    tensors = {name: value for name, value in state_dict.items() if name not in OPENAI_EXTRAS}
    is_openai = all(name in state_dict for name in OPENAI_EXTRAS)
    return StoredModel(tensors, None, None, None, None, is_openai)


def _made(model_class: type[CLIP], config: ClipConfig, stored: StoredModel) -> CLIP:
    model = build_model(config, stored, model_class=model_class)
    set_model_preprocess_cfg(model, (stored.preprocess or preprocess_of(config)).to_dict())
    return model.eval()


def _device(device: str | torch.device | None) -> torch.device:
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
