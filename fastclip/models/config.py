"""The configurations of models and of their towers, gathered for one import."""

from fastclip.models.clip_config import DEFAULT_LOGIT_SCALE as DEFAULT_LOGIT_SCALE
from fastclip.models.clip_config import SIGLIP_LOGIT_BIAS as SIGLIP_LOGIT_BIAS
from fastclip.models.clip_config import SIGLIP_LOGIT_SCALE as SIGLIP_LOGIT_SCALE
from fastclip.models.clip_config import ClipConfig as ClipConfig
from fastclip.models.coca.config import MultimodalConfig as MultimodalConfig
from fastclip.models.towers.hugging_face.config import HfTextConfig as HfTextConfig
from fastclip.models.towers.modified_resnet.config import ResNetConfig as ResNetConfig
from fastclip.models.towers.naflex.config import NaflexConfig as NaflexConfig
from fastclip.models.towers.siglip.config import SiglipVisionConfig as SiglipVisionConfig
from fastclip.models.towers.text.config import TextConfig as TextConfig
from fastclip.models.towers.timm.config import TimmConfig as TimmConfig
from fastclip.models.towers.vision_transformer.config import VisionConfig as VisionConfig
