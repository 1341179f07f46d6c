"""The names of `open_clip.factory`."""

from fastclip.data.augment import AugmentationCfg
from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.data.tokenizers.hugging_face import HFTokenizer
from fastclip.data.tokenizers.open_clip import DEFAULT_CONTEXT_LENGTH, SimpleTokenizer
from fastclip.losses.create import create_loss
from fastclip.models.checkpoints.load import load_checkpoint, load_state_dict
from fastclip.models.factory import (
    create_model,
    create_model_and_transforms,
    create_model_from_pretrained,
)
from fastclip.models.registry import HUB as HF_HUB_PREFIX
from fastclip.models.registry import LOCAL_DIRECTORY as LOCAL_DIR_PREFIX
from fastclip.models.registry import (
    add_model_config,
    get_model_config,
    list_models,
    parse_model_name,
)
from fastclip.models.registry import architectures as _MODEL_CONFIGS
from fastclip.models.tokenizer import get_tokenizer
