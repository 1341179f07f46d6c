"""The list of the built-in towers. A new tower is a file or folder of its own, and a line here."""

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

# The order in which they are asked matters: NaFlex towers also have what identifies SigLIP's, some
# of timm's towers are SigLIP's, and open_clip's JSON means a vision transformer if nothing else.
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
# The order matters here, too: a `text_cfg` that identifies no other tower means CLIP's.
TEXT_TOWERS: list[type[TextTowerConfig]] = [
    HfTextConfig,
    TipsTextConfig,
    TextConfig,
]


def tower_told_by(values: Mapping[str, Any]) -> type[ImageTowerConfig]:
    """Return the kind of image tower that a `vision_cfg` in open_clip's fields describes."""
    return next(tower for tower in IMAGE_TOWERS if tower.is_told_by(values))


def text_tower_told_by(values: Mapping[str, Any]) -> type[TextTowerConfig]:
    """Return the kind of text tower that a `text_cfg` in open_clip's fields describes."""
    return next(tower for tower in TEXT_TOWERS if tower.is_told_by(values))


def text_tower_with_weights_in(tensors: Mapping[str, Tensor]) -> type[TextTowerConfig] | None:
    """Return the kind of text tower that the tensors' names identify.

    Returns None if they identify none; the image tower may then know its text tower.
    """
    return next((tower for tower in TEXT_TOWERS if tower.has_weights_in(tensors)), None)


def tower_with_weights_in(tensors: Mapping[str, Tensor]) -> type[ImageTowerConfig] | None:
    """Return the kind of image tower whose weights a state dict under open_clip's names has.

    Returns None if it has the weights of no known kind.
    """
    return next((tower for tower in IMAGE_TOWERS if tower.has_weights_in(tensors)), None)
