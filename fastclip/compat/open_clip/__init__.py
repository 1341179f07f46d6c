"""The names of open_clip 3.3.0."""

import sys

from fastclip.compat.installation import install_as
from fastclip.compat.open_clip import (
    coca_model,
    constants,
    convert,
    factory,
    hf_configs,
    hf_model,
    loss,
    model,
    modified_resnet,
    openai,
    pos_embed,
    pretrained,
    timm_model,
    tokenizer,
    transform,
    transformer,
    utils,
    version,
    zero_shot_classifier,
    zero_shot_metadata,
)
from fastclip.compat.open_clip.coca_model import CoCa
from fastclip.compat.open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from fastclip.compat.open_clip.factory import (
    add_model_config,
    create_loss,
    create_model,
    create_model_and_transforms,
    create_model_from_pretrained,
    get_model_config,
    get_tokenizer,
    list_models,
    load_checkpoint,
)
from fastclip.compat.open_clip.loss import ClipLoss, CoCaLoss, DistillClipLoss, SigLipLoss
from fastclip.compat.open_clip.model import (
    CLIP,
    CLIPTextCfg,
    CLIPVisionCfg,
    CustomTextCLIP,
    convert_weights_to_fp16,
    convert_weights_to_lp,
    get_cast_dtype,
    get_input_dtype,
    get_model_preprocess_cfg,
    get_model_tokenize_cfg,
    set_model_preprocess_cfg,
    trace_model,
)
from fastclip.compat.open_clip.openai import list_openai_models, load_openai_model
from fastclip.compat.open_clip.pretrained import (
    download_pretrained,
    download_pretrained_from_url,
    get_pretrained_cfg,
    get_pretrained_url,
    is_pretrained_cfg,
    list_pretrained,
    list_pretrained_models_by_tag,
    list_pretrained_tags_by_model,
)
from fastclip.compat.open_clip.push_to_hf_hub import push_pretrained_to_hf_hub, push_to_hf_hub
from fastclip.compat.open_clip.tokenizer import HFTokenizer, SimpleTokenizer, decode, tokenize
from fastclip.compat.open_clip.transform import AugmentationCfg, image_transform, image_transform_v2
from fastclip.compat.open_clip.version import __version__
from fastclip.compat.open_clip.zero_shot_classifier import (
    build_zero_shot_classifier,
    build_zero_shot_classifier_legacy,
)
from fastclip.compat.open_clip.zero_shot_metadata import (
    IMAGENET_CLASSNAMES,
    OPENAI_IMAGENET_TEMPLATES,
    SIMPLE_IMAGENET_TEMPLATES,
)


def install() -> None:
    """Make `import open_clip` mean this package in this process.

    Raises:
        RuntimeError: another `open_clip` is already imported.

    Example:
        >>> import fastclip.compat.open_clip
        >>> fastclip.compat.open_clip.install()
        >>> from open_clip.loss import ClipLoss
    """
    install_as("open_clip", sys.modules[__name__])
