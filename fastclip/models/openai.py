"""OpenAI's interface to CLIP: `load`, `available_models`, a model that returns logits.

    model, preprocess = fastclip.load("ViT-B/32", device=device)
    logits_per_image, logits_per_text = model(image, fastclip.tokenize(texts))

What works on the inside of OpenAI's models works on these: transformers, blocks and attention take
(T, B, width), the blocks of the text tower keep their causal mask, and `resblocks` can be called.

Source: README and `clip.py` of openai/CLIP.
"""

from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from fastclip.data.preprocess import EvaluationTransform, image_transform_v2
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.source import read_source
from fastclip.models.clip import CLIP
from fastclip.models.config import ClipConfig
from fastclip.models.factory import build_model
from fastclip.models.fetch import fetch_openai
from fastclip.models.precision import set_precision
from fastclip.models.presets import preprocess_of
from fastclip.models.published import OPENAI_FILES
from fastclip.models.vision_transformer import VisionTransformer


class LogitsCLIP(CLIP):
    """`CLIP` as OpenAI's: it returns logits, for inference, and its transformers are theirs.

    Attributes:
        attn_mask: (context_length, context_length) of the text tower's blocks, each of which has
            it as its own `attn_mask`; to be set for all of them at once.
    """

    def __init__(self, config: ClipConfig, output_dict: bool = False) -> None:
        super().__init__(config, output_dict)
        self.transformer.become_sequence_first()
        if isinstance(self.visual, VisionTransformer):
            self.visual.transformer.become_sequence_first()

    @property
    def attn_mask(self) -> Tensor | None:
        return self.transformer.resblocks[0].attn_mask

    @attn_mask.setter
    def attn_mask(self, attn_mask: Tensor | None) -> None:
        for block in self.transformer.resblocks:
            block.attn_mask = attn_mask

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, C) logits of B pictures and C texts, and their transpose."""
        return self.get_logits(image, text)

    def initialize_parameters(self) -> None:
        """Make all parameters random again, as those of a new model are."""
        self.load_state_dict(type(self)(self.config).state_dict())

    def _keep_mask(self, is_causal: bool) -> None:
        super()._keep_mask(is_causal=False)  # blocks have their own
        self.attn_mask = self.build_attention_mask() if is_causal else None

    def _mask_for(self, x: Tensor) -> None:
        return None


def available_models() -> list[str]:
    """The names that `load` takes, in OpenAI's spelling."""
    return list(OPENAI_FILES)


def load(
    name: str | PathLike,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | PathLike | None = None,
    activation: str | None = None,
    precision: str | None = None,
    heads: int | tuple[int, int] | None = None,
) -> tuple[LogitsCLIP, EvaluationTransform]:
    """Load a CLIP model, in evaluation mode, and the transform of its pictures.

    Args:
        name: one of `available_models()`, or the path of a file or directory that `read_source`
            reads; the architecture is inferred where it is not told.
        device: by default the GPU if there is one.
        jit: not supported; use `torch.compile`.
        download_root: where OpenAI's files are kept; ~/.cache/clip by default.
        activation: of weights that do not say it: "quick_gelu" or "gelu".
        heads: attention heads of weights that do not say them and are not like a published model:
            of both towers, or of the vision and of the text tower.
        precision: see `precision.py`; by default OpenAI's choice, "fp16" on a GPU and "fp32" else.

    Raises:
        ValueError: no such model, or `jit`.
        FileNotFoundError: no such file or directory.
        CheckpointError: the weights cannot be fetched or read, do not say their activation or
            heads, or are not of a CLIP model.
    """
    if jit:
        raise ValueError("jit=True is not supported: torch.compile(model) takes its place")
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if str(name) in OPENAI_FILES:
        path = fetch_openai(str(name), download_root)
        activation = "quick_gelu"
    elif Path(name).exists():
        path = Path(name)
    else:
        raise ValueError(f"no model {name!r}: neither a path nor one of {available_models()}")
    source = read_source(path)
    config = source.config_or_inferred(activation, heads)
    if config.custom_text:
        raise CheckpointError(f"{name} is no CLIP model of OpenAI's kind: use create_model")
    model = build_model(config, source, model_class=LogitsCLIP)
    if precision is None:
        precision = "fp16" if torch.device(device).type == "cuda" else "fp32"
    preprocess = source.preprocess or preprocess_of(config)
    model.visual.preprocess_cfg = preprocess.to_dict()
    model = set_precision(model, precision).to(device).eval()
    return model, image_transform_v2(preprocess, is_train=False)
