"""fastclip: the CLIP contrastive loss and its gradients without the N x N logits.

`import fastclip` imports the losses only. Encoders, tokenizers and transforms, which need more than
torch, are imported when their names are first used.
"""

import importlib
import types
from typing import TYPE_CHECKING

from fastclip.functional import ClipStats as ClipStats
from fastclip.functional import clip_loss as clip_loss
from fastclip.functional import siglip_loss as siglip_loss
from fastclip.losses.clip import ClipLoss as ClipLoss
from fastclip.losses.siglip import SigLipLoss as SigLipLoss
from fastclip.ops.dispatch import available_backends as available_backends
from fastclip.ops.dispatch import explain_backends as explain_backends

if TYPE_CHECKING:
    from fastclip.batch_curve import BatchCurve as BatchCurve
    from fastclip.batch_curve import clip_batch_curve as clip_batch_curve
    from fastclip.compat.clip import simple_tokenizer as simple_tokenizer
    from fastclip.compat.clip.clip import _MODELS as _MODELS
    from fastclip.compat.clip.model import build_model as build_model
    from fastclip.compat.clip.model import convert_weights as convert_weights
    from fastclip.data.augment import AugmentationCfg as AugmentationCfg
    from fastclip.data.images import ImageError as ImageError
    from fastclip.data.images import load_image as load_image
    from fastclip.data.loading.token_budget import TokenBudgetSampler as TokenBudgetSampler
    from fastclip.data.patches import collate_patches as collate_patches
    from fastclip.data.pixels import standardize as standardize
    from fastclip.data.preprocess import OPENAI_DATASET_MEAN as OPENAI_DATASET_MEAN
    from fastclip.data.preprocess import OPENAI_DATASET_STD as OPENAI_DATASET_STD
    from fastclip.data.preprocess import image_transform as image_transform
    from fastclip.data.preprocess import image_transform_v2 as image_transform_v2
    from fastclip.data.tokenizers.hugging_face import HFTokenizer as HFTokenizer
    from fastclip.data.tokenizers.open_clip import SimpleTokenizer as SimpleTokenizer
    from fastclip.data.tokenizers.openai import decode as decode
    from fastclip.data.tokenizers.openai import tokenize as tokenize
    from fastclip.evaluate.imagenet import IMAGENET_CLASSNAMES as IMAGENET_CLASSNAMES
    from fastclip.evaluate.imagenet import OPENAI_IMAGENET_TEMPLATES as OPENAI_IMAGENET_TEMPLATES
    from fastclip.evaluate.imagenet import SIMPLE_IMAGENET_TEMPLATES as SIMPLE_IMAGENET_TEMPLATES
    from fastclip.evaluate.zero_shot_classifier import (
        build_zero_shot_classifier as build_zero_shot_classifier,
    )
    from fastclip.evaluate.zero_shot_classifier import (
        build_zero_shot_classifier_legacy as build_zero_shot_classifier_legacy,
    )
    from fastclip.losses.coca import CoCaLoss as CoCaLoss
    from fastclip.losses.create import create_loss as create_loss
    from fastclip.losses.dcl import DCLLoss as DCLLoss
    from fastclip.losses.dcl import dcl_loss as dcl_loss
    from fastclip.losses.distill_clip import DistillClipLoss as DistillClipLoss
    from fastclip.losses.distill_clip import distill_clip_loss as distill_clip_loss
    from fastclip.losses.info_loob import InfoLOOBLoss as InfoLOOBLoss
    from fastclip.losses.info_loob import info_loob_loss as info_loob_loss
    from fastclip.losses.info_nce import InfoNCELoss as InfoNCELoss
    from fastclip.losses.info_nce import info_nce_loss as info_nce_loss
    from fastclip.losses.locca import LocCaLoss as LocCaLoss
    from fastclip.losses.matryoshka import MatryoshkaClipLoss as MatryoshkaClipLoss
    from fastclip.losses.matryoshka import matryoshka_clip_loss as matryoshka_clip_loss
    from fastclip.losses.modalities import ModalitiesLoss as ModalitiesLoss
    from fastclip.losses.modalities import modalities_loss as modalities_loss
    from fastclip.losses.multiple_negatives import MultipleNegativesLoss as MultipleNegativesLoss
    from fastclip.losses.multiple_negatives import (
        multiple_negatives_loss as multiple_negatives_loss,
    )
    from fastclip.losses.nt_xent import NTXentLoss as NTXentLoss
    from fastclip.losses.nt_xent import nt_xent_loss as nt_xent_loss
    from fastclip.losses.queue import QueueLoss as QueueLoss
    from fastclip.losses.sog_clr import SogCLRLoss as SogCLRLoss
    from fastclip.losses.sup_con import SupConLoss as SupConLoss
    from fastclip.losses.sup_con import sup_con_loss as sup_con_loss
    from fastclip.losses.uni_cl import UniCLLoss as UniCLLoss
    from fastclip.losses.uni_cl import uni_cl_loss as uni_cl_loss
    from fastclip.models.checkpoints.load import load_checkpoint as load_checkpoint
    from fastclip.models.checkpoints.write import save_pretrained as save_pretrained
    from fastclip.models.clip import CLIP as CLIP
    from fastclip.models.coca.model import CoCa as CoCa
    from fastclip.models.factory import create_model as create_model
    from fastclip.models.factory import create_model_and_transforms as create_model_and_transforms
    from fastclip.models.factory import create_model_from_pretrained as create_model_from_pretrained
    from fastclip.models.fetch import download_pretrained as download_pretrained
    from fastclip.models.fetch import download_pretrained_from_url as download_pretrained_from_url
    from fastclip.models.hub_upload import push_pretrained_to_hf_hub as push_pretrained_to_hf_hub
    from fastclip.models.hub_upload import push_to_hf_hub as push_to_hf_hub
    from fastclip.models.inference import InferenceModel as InferenceModel
    from fastclip.models.inference import open_model as open_model
    from fastclip.models.locca.head import LocCaHead as LocCaHead
    from fastclip.models.locca.model import LocCa as LocCa
    from fastclip.models.locca.vocabulary import LocCaVocabulary as LocCaVocabulary
    from fastclip.models.model_settings import get_model_preprocess_cfg as get_model_preprocess_cfg
    from fastclip.models.model_settings import get_model_tokenize_cfg as get_model_tokenize_cfg
    from fastclip.models.model_settings import set_model_preprocess_cfg as set_model_preprocess_cfg
    from fastclip.models.openai import available_models as available_models
    from fastclip.models.openai import list_openai_models as list_openai_models
    from fastclip.models.openai import load as load
    from fastclip.models.openai import load_openai_model as load_openai_model
    from fastclip.models.precision import convert_weights_to_fp16 as convert_weights_to_fp16
    from fastclip.models.precision import convert_weights_to_lp as convert_weights_to_lp
    from fastclip.models.precision import get_cast_dtype as get_cast_dtype
    from fastclip.models.precision import get_input_dtype as get_input_dtype
    from fastclip.models.pretrained import get_pretrained_cfg as get_pretrained_cfg
    from fastclip.models.pretrained import get_pretrained_url as get_pretrained_url
    from fastclip.models.pretrained import is_pretrained_cfg as is_pretrained_cfg
    from fastclip.models.pretrained import list_pretrained as list_pretrained
    from fastclip.models.pretrained import (
        list_pretrained_models_by_tag as list_pretrained_models_by_tag,
    )
    from fastclip.models.pretrained import (
        list_pretrained_tags_by_model as list_pretrained_tags_by_model,
    )
    from fastclip.models.registry import add_model_config as add_model_config
    from fastclip.models.registry import get_model_config as get_model_config
    from fastclip.models.registry import list_models as list_models
    from fastclip.models.tokenizer import get_tokenizer as get_tokenizer
    from fastclip.models.tracing import trace_model as trace_model
    from fastclip.models.two_tower import CustomTextCLIP as CustomTextCLIP
    from fastclip.models.two_tower import EncoderTower as EncoderTower
    from fastclip.models.two_tower import TwoTower as TwoTower
    from fastclip.train.step.cached import CachedStep as CachedStep
    from fastclip.train.step.cached import cached_step as cached_step
    from fastclip.train.step.step_result import StepResult as StepResult

__version__ = "0.1.0"

_LATER = {
    "fastclip.batch_curve": ("BatchCurve", "clip_batch_curve"),
    "fastclip.compat.clip": ("simple_tokenizer",),
    "fastclip.compat.clip.clip": ("_MODELS",),
    "fastclip.compat.clip.model": ("build_model", "convert_weights"),
    "fastclip.data.augment": ("AugmentationCfg",),
    "fastclip.data.images": ("ImageError", "load_image"),
    "fastclip.data.loading.token_budget": ("TokenBudgetSampler",),
    "fastclip.data.patches": ("collate_patches",),
    "fastclip.data.pixels": ("standardize",),
    "fastclip.data.preprocess": (
        "OPENAI_DATASET_MEAN", "OPENAI_DATASET_STD", "image_transform", "image_transform_v2",
    ),
    "fastclip.data.tokenizers.hugging_face": ("HFTokenizer",),
    "fastclip.data.tokenizers.open_clip": ("SimpleTokenizer",),
    "fastclip.data.tokenizers.openai": ("decode", "tokenize"),
    "fastclip.evaluate.imagenet": (
        "IMAGENET_CLASSNAMES", "OPENAI_IMAGENET_TEMPLATES", "SIMPLE_IMAGENET_TEMPLATES",
    ),
    "fastclip.evaluate.zero_shot_classifier": (
        "build_zero_shot_classifier", "build_zero_shot_classifier_legacy",
    ),
    "fastclip.losses.coca": ("CoCaLoss",),
    "fastclip.losses.create": ("create_loss",),
    "fastclip.losses.dcl": ("DCLLoss", "dcl_loss"),
    "fastclip.losses.distill_clip": ("DistillClipLoss", "distill_clip_loss"),
    "fastclip.losses.info_loob": ("InfoLOOBLoss", "info_loob_loss"),
    "fastclip.losses.info_nce": ("InfoNCELoss", "info_nce_loss"),
    "fastclip.losses.locca": ("LocCaLoss",),
    "fastclip.losses.matryoshka": ("MatryoshkaClipLoss", "matryoshka_clip_loss"),
    "fastclip.losses.modalities": ("ModalitiesLoss", "modalities_loss"),
    "fastclip.losses.multiple_negatives": ("MultipleNegativesLoss", "multiple_negatives_loss"),
    "fastclip.losses.nt_xent": ("NTXentLoss", "nt_xent_loss"),
    "fastclip.losses.queue": ("QueueLoss",),
    "fastclip.losses.sog_clr": ("SogCLRLoss",),
    "fastclip.losses.sup_con": ("SupConLoss", "sup_con_loss"),
    "fastclip.losses.uni_cl": ("UniCLLoss", "uni_cl_loss"),
    "fastclip.models.checkpoints.load": ("load_checkpoint",),
    "fastclip.models.checkpoints.write": ("save_pretrained",),
    "fastclip.models.clip": ("CLIP",),
    "fastclip.models.coca.model": ("CoCa",),
    "fastclip.models.factory": (
        "create_model", "create_model_and_transforms", "create_model_from_pretrained",
    ),
    "fastclip.models.fetch": ("download_pretrained", "download_pretrained_from_url"),
    "fastclip.models.hub_upload": ("push_pretrained_to_hf_hub", "push_to_hf_hub"),
    "fastclip.models.inference": ("InferenceModel", "open_model"),
    "fastclip.models.locca.head": ("LocCaHead",),
    "fastclip.models.locca.model": ("LocCa",),
    "fastclip.models.locca.vocabulary": ("LocCaVocabulary",),
    "fastclip.models.model_settings": (
        "get_model_preprocess_cfg", "get_model_tokenize_cfg", "set_model_preprocess_cfg",
    ),
    "fastclip.models.openai": (
        "available_models", "list_openai_models", "load", "load_openai_model",
    ),
    "fastclip.models.precision": (
        "convert_weights_to_fp16", "convert_weights_to_lp", "get_cast_dtype", "get_input_dtype",
    ),
    "fastclip.models.pretrained": (
        "get_pretrained_cfg", "get_pretrained_url", "is_pretrained_cfg", "list_pretrained",
        "list_pretrained_models_by_tag", "list_pretrained_tags_by_model",
    ),
    "fastclip.models.registry": ("add_model_config", "get_model_config", "list_models"),
    "fastclip.models.tokenizer": ("get_tokenizer",),
    "fastclip.models.tracing": ("trace_model",),
    "fastclip.models.two_tower": ("CustomTextCLIP", "EncoderTower", "TwoTower"),
    "fastclip.train.step.cached": ("CachedStep", "cached_step"),
    "fastclip.train.step.step_result": ("StepResult",),
}  # fmt: skip
_MODULES = {name: module for module, names in _LATER.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'fastclip' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names and every module's attributes, without submodules and imports."""
    own = {name for name, value in globals().items() if _is_public(name, value)}
    return sorted(own | {name for name in _MODULES if not name.startswith("_")})


def _is_public(name: str, value: object) -> bool:
    if name.startswith("_"):
        return name.startswith("__")
    return not isinstance(value, types.ModuleType) and name != "TYPE_CHECKING"
