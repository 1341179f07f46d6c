"""The configuration of CLIP's modified ResNet."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from fastclip.data.limits import MOST_LAYERS
from fastclip.data.quoting import quoted
from fastclip.models.checkpoints.shapes import depth_of, side_of, sizes_of
from fastclip.models.open_clip_fields import NO_TIMM, POOLER, VISION, json_fields, names_of
from fastclip.models.towers.config_checks import require_multiple, require_patches, require_sizes
from fastclip.models.towers.image_config import ImageTowerConfig, Moments, Positions

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig
    from fastclip.models.towers.modified_resnet.module import ModifiedResNet


@dataclass(frozen=True)
class ResNetConfig(ImageTowerConfig):
    """The configuration of CLIP's modified ResNet: four stages of bottlenecks, attention pooling.

    Attributes:
        layers: the number of bottlenecks in each stage.
        width: channels of the first stage's convolutions.
        head_width: channels of a head of the attention that reads the last map.

    Raises:
        ValueError: `layers` are not four, a size is not positive, or the image's height or width
            is not a multiple of 32, by which the stages divide it.
    """

    kind: ClassVar = "ResNet"
    positions: ClassVar = Positions("attnpool.positional_embedding", num_before=1)
    is_openais: ClassVar = True
    moments: ClassVar = Moments(0.9, 0.999, 1e-8)

    image_size: tuple[int, int]
    layers: tuple[int, int, int, int]
    width: int
    head_width: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if len(self.layers) != 4:
            raise ValueError(
                f"layers must be four positive numbers, one for each stage, got "
                f"{quoted(self.layers)}"
            )
        require_sizes(
            MOST_LAYERS, **{f"layers[{i}]": layers for i, layers in enumerate(self.layers)}
        )
        require_sizes(width=self.width, head_width=self.head_width)
        object.__setattr__(self, "image_size", require_patches(self.image_size, 32))
        require_multiple("width * 32", self.width * 32, "head_width", self.head_width)

    @property
    def heads(self) -> int:
        return self.width * 32 // self.head_width

    @property
    def grid_size(self) -> tuple[int, int]:
        return self.image_size[0] // 32, self.image_size[1] // 32

    def build(self, embed_dim: int) -> "ModifiedResNet":
        from fastclip.models.towers.modified_resnet.module import ModifiedResNet

        return ModifiedResNet(self, embed_dim)

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        from fastclip.models.towers.modified_resnet.presets import presets

        return presets()

    def num_matrix_parameters(self) -> int:
        widths = (self.width * 2**stage for stage in range(4))
        of_stages = sum(17 * n * width**2 for n, width in zip(self.layers, widths, strict=True))
        return math.prod(self.grid_size) * self.width + of_stages

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        return isinstance(values.get("layers"), (list, tuple))

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "ResNetConfig":
        return cls(**{"image_size": 224, "width": 768} | RESNET_FIELDS.read("vision_cfg", values))

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        return asdict(self) | {"layers": list(self.layers), "patch_size": None}

    def is_portable(self) -> bool:
        return True

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        return any(name.startswith("visual.layer1.") for name in tensors)

    @classmethod
    def of_weights(
        cls, tensors: Mapping[str, Tensor], activation: str
    ) -> tuple["ResNetConfig", int]:
        positions = "visual.attnpool.positional_embedding"
        grid = side_of(sizes_of(tensors, positions, 2)[0] - 1, positions)
        layers = tuple(depth_of(tensors, f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
        width = sizes_of(tensors, "visual.layer1.0.conv1.weight", 4)[0]
        tower = cls(grid * 32, layers, width, head_width=width * 32)
        return tower, sizes_of(tensors, "visual.attnpool.c_proj.weight", 2)[0]

    def with_heads(self, heads: int) -> "ResNetConfig":
        return replace(self, head_width=self.attention_width // heads)

    @property
    def attention_width(self) -> int:
        return self.width * 32

    def shape(self) -> tuple:
        return ResNetConfig, self.width, self.layers

    def what_openai_lacks(self) -> dict[str, bool]:
        return {"heads of 64 channels in the vision tower": self.head_width != 64}


RESNET_FIELDS = json_fields(
    names_of(ResNetConfig),
    VISION,
    POOLER | NO_TIMM | {"patch_size": "A ResNet has no patches."},
)
