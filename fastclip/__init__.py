"""fastclip: the CLIP contrastive loss and its gradients without the N x N logits.

The loss is imported with the package. Encoders, tokenizers and transforms, which need more than
torch, are imported when they are first named.
"""

import importlib
from typing import TYPE_CHECKING

from fastclip.functional import ClipStats as ClipStats
from fastclip.functional import clip_loss as clip_loss
from fastclip.functional import siglip_loss as siglip_loss
from fastclip.losses.clip import ClipLoss as ClipLoss
from fastclip.losses.siglip import SigLipLoss as SigLipLoss
from fastclip.ops.dispatch import available_backends as available_backends
from fastclip.ops.dispatch import explain_backends as explain_backends

if TYPE_CHECKING:
    from fastclip.data.images import ImageError as ImageError
    from fastclip.data.images import load_image as load_image
    from fastclip.data.pixels import standardize as standardize
    from fastclip.data.preprocess import OPENAI_DATASET_MEAN as OPENAI_DATASET_MEAN
    from fastclip.data.preprocess import OPENAI_DATASET_STD as OPENAI_DATASET_STD
    from fastclip.data.preprocess import image_transform as image_transform
    from fastclip.data.preprocess import image_transform_v2 as image_transform_v2
    from fastclip.data.tokenizers.byte_pairs import SimpleTokenizer as SimpleTokenizer
    from fastclip.data.tokenizers.hugging_face import HFTokenizer as HFTokenizer
    from fastclip.data.tokenizers.openai import decode as decode
    from fastclip.data.tokenizers.openai import tokenize as tokenize
    from fastclip.models.checkpoints.load import load_checkpoint as load_checkpoint
    from fastclip.models.checkpoints.write import save_pretrained as save_pretrained
    from fastclip.models.clip import CLIP as CLIP
    from fastclip.models.factory import create_model as create_model
    from fastclip.models.factory import create_model_and_transforms as create_model_and_transforms
    from fastclip.models.factory import create_model_from_pretrained as create_model_from_pretrained
    from fastclip.models.openai import available_models as available_models
    from fastclip.models.openai import load as load
    from fastclip.models.published import list_pretrained as list_pretrained
    from fastclip.models.registry import add_model_config as add_model_config
    from fastclip.models.registry import get_model_config as get_model_config
    from fastclip.models.registry import list_models as list_models
    from fastclip.models.tokenizer import get_tokenizer as get_tokenizer
    from fastclip.models.two_tower import CustomTextCLIP as CustomTextCLIP
    from fastclip.models.two_tower import EncoderTower as EncoderTower
    from fastclip.models.two_tower import TwoTower as TwoTower
    from fastclip.train.step import CachedStep as CachedStep
    from fastclip.train.step import cached_step as cached_step

__version__ = "0.1.0"

_LATER = {
    "fastclip.data.images": ("ImageError", "load_image"),
    "fastclip.data.pixels": ("standardize",),
    "fastclip.data.preprocess": (
        "OPENAI_DATASET_MEAN", "OPENAI_DATASET_STD", "image_transform", "image_transform_v2",
    ),
    "fastclip.data.tokenizers.byte_pairs": ("SimpleTokenizer",),
    "fastclip.data.tokenizers.hugging_face": ("HFTokenizer",),
    "fastclip.data.tokenizers.openai": ("decode", "tokenize"),
    "fastclip.models.checkpoints.load": ("load_checkpoint",),
    "fastclip.models.checkpoints.write": ("save_pretrained",),
    "fastclip.models.clip": ("CLIP",),
    "fastclip.models.factory": (
        "create_model", "create_model_and_transforms", "create_model_from_pretrained",
    ),
    "fastclip.models.openai": ("available_models", "load"),
    "fastclip.models.published": ("list_pretrained",),
    "fastclip.models.registry": ("add_model_config", "get_model_config", "list_models"),
    "fastclip.models.tokenizer": ("get_tokenizer",),
    "fastclip.models.two_tower": ("CustomTextCLIP", "EncoderTower", "TwoTower"),
    "fastclip.train.step": ("CachedStep", "cached_step"),
}  # fmt: skip
_MODULES = {name: module for module, names in _LATER.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'fastclip' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
