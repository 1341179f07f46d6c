"""The towers that are built in. A new one is a file of its own, and a line here."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fastclip.models.towers.convnext.config import ConvNextConfig
from fastclip.models.towers.hugging_face.config import HfTextConfig
from fastclip.models.towers.image_config import ImageTowerConfig
from fastclip.models.towers.modified_resnet.config import ResNetConfig
from fastclip.models.towers.naflex.config import NaflexConfig
from fastclip.models.towers.pe_core.config import PECoreConfig
from fastclip.models.towers.siglip.config import SiglipVisionConfig
from fastclip.models.towers.text.config import TextConfig
from fastclip.models.towers.text_config import TextTowerConfig
from fastclip.models.towers.timm.config import TimmConfig
from fastclip.models.towers.tips.config import TipsVisionConfig
from fastclip.models.towers.tips.text_config import TipsTextConfig
from fastclip.models.towers.vision_transformer.config import VisionConfig

# In the order in which they are asked: NaFlex towers have what tells SigLIP's, SigLIP's are some of
# timm's, and open_clip's JSON is of a vision transformer where it says nothing else.
IMAGE_TOWERS: list[type[ImageTowerConfig]] = [
    ConvNextConfig,
    PECoreConfig,
    NaflexConfig,
    SiglipVisionConfig,
    TipsVisionConfig,
    TimmConfig,
    ResNetConfig,
    VisionConfig,
]
# In the order in which they are asked, too: a `text_cfg` that says nothing else is of CLIP's tower.
TEXT_TOWERS: list[type[TextTowerConfig]] = [
    HfTextConfig,
    TipsTextConfig,
    TextConfig,
]


def tower_told_by(values: Mapping[str, Any]) -> type[ImageTowerConfig]:
    """The kind of tower that a `vision_cfg` in open_clip's words is of."""
    return next(tower for tower in IMAGE_TOWERS if tower.is_told_by(values))


def text_tower_told_by(values: Mapping[str, Any]) -> type[TextTowerConfig]:
    """The kind of tower that a `text_cfg` in open_clip's words is of."""
    return next(tower for tower in TEXT_TOWERS if tower.is_told_by(values))


def text_tower_with_weights_in(tensors: Mapping[str, Tensor]) -> type[TextTowerConfig] | None:
    """The kind of text tower that names of tensors tell, or None: the image tower may know it."""
    return next((tower for tower in TEXT_TOWERS if tower.has_weights_in(tensors)), None)


def tower_with_weights_in(tensors: Mapping[str, Tensor]) -> type[ImageTowerConfig] | None:
    """The kind of image tower that a state dict under open_clip's names has, or None."""
    return next((tower for tower in IMAGE_TOWERS if tower.has_weights_in(tensors)), None)
