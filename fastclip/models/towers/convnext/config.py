"""The configuration of ConvNeXt.

open_clip takes this tower from timm, by a name that determines the tower's size. A tower of another
size is written in fastclip's own fields, with `pool_type` "convnext".

Source: the ConvNeXt models of timm 1.0.31.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from fastclip.data.limits import MOST_LAYERS
from fastclip.data.quoting import quoted
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.open_clip_fields import (
    NO_TIMM,
    POOLER,
    TIMM_DEFAULTS,
    VISION,
    json_fields,
    names_of,
)
from fastclip.models.parts.projection_head import LINEAR, MLP
from fastclip.models.towers.config_checks import (
    require_blocks,
    require_choice,
    require_flags,
    require_fractions,
    require_patches,
    require_sizes,
)
from fastclip.models.towers.image_config import ImageTowerConfig

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig
    from fastclip.models.towers.convnext.module import ConvNext

NUM_STAGES = 4
STRIDE = 32  # pixels of an image per place of the last map
CONVNEXTS = {
    "convnext_tiny": dict(layers=(3, 3, 9, 3), width=96),
    "convnext_small": dict(layers=(3, 3, 27, 3), width=96),
    "convnext_base": dict(layers=(3, 3, 27, 3), width=128),
    "convnext_large": dict(layers=(3, 3, 27, 3), width=192),
    "convnext_xlarge": dict(layers=(3, 3, 27, 3), width=256),
    "convnext_xxlarge": dict(layers=(3, 4, 30, 3), width=384, norm_eps=1e-5),
}
SHAPE = ("layers", "width", "norm_eps")


@dataclass(frozen=True)
class ConvNextConfig(ImageTowerConfig):
    """A ConvNeXt: four stages, each twice as wide as the one before, and then a projection.

    Attributes:
        layers: the number of blocks in each stage.
        width: channels of the first stage.
        norm_eps: the epsilon of all norms.
        proj: the kind of projection, "linear" or "mlp".
        proj_bias: whether the projection's last layer has a bias.
        drop: the rate of dropout in the projection.
        drop_path: the rate of stochastic depth in the last block; see `parts/drop_path.py`.

    Raises:
        ValueError: `layers` are not four, a value is out of its range, or the image is smaller
            than 32 x 32.
    """

    kind: ClassVar = "ConvNeXt"
    heads: ClassVar = None

    image_size: tuple[int, int]
    layers: tuple[int, int, int, int]
    width: int
    norm_eps: float = 1e-6
    proj: str = LINEAR
    proj_bias: bool = False
    drop: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if len(self.layers) != NUM_STAGES:
            raise ValueError(
                f"layers must be four positive numbers, one for each stage, got "
                f"{quoted(self.layers)}"
            )
        require_sizes(
            MOST_LAYERS, **{f"layers[{i}]": layers for i, layers in enumerate(self.layers)}
        )
        require_sizes(width=self.width)
        # As in all of timm's towers, pixels beyond the last whole place are not read.
        object.__setattr__(self, "image_size", require_patches(self.image_size, STRIDE, False))
        require_blocks(self.width, 4.0, self.norm_eps)
        require_choice("proj", self.proj, (LINEAR, MLP))
        require_flags(proj_bias=self.proj_bias)
        require_fractions(drop=self.drop, drop_path=self.drop_path)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width * 2**stage for stage in range(NUM_STAGES))

    @property
    def grid_size(self) -> tuple[int, int]:
        return self.image_size[0] // STRIDE, self.image_size[1] // STRIDE

    def build(self, embed_dim: int) -> "ConvNext":
        from fastclip.models.towers.convnext.module import ConvNext

        return ConvNext(self, embed_dim)

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        from fastclip.models.towers.convnext.presets import presets

        return presets()

    def num_matrix_parameters(self) -> int:
        of_blocks = sum(
            n * (8 * w**2 + 49 * w) for n, w in zip(self.layers, self.widths, strict=True)
        )
        between = sum(8 * w**2 for w in self.widths[:-1])
        return 48 * self.width + of_blocks + between

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        if values.get("pool_type") == "convnext":
            return True
        is_averaged = (TIMM_DEFAULTS | values)["timm_pool"] in ("", "avg")
        is_projected = (TIMM_DEFAULTS | values)["timm_proj"] in (LINEAR, MLP)
        name = values.get("timm_model_name")
        return is_averaged and is_projected and isinstance(name, str) and name in CONVNEXTS

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "ConvNextConfig":
        if "timm_model_name" not in values:
            values = CONVNEXT_FIELDS.read("vision_cfg", values)
            return cls(**{k: v for k, v in values.items() if k != "pool_type"})
        values = {"image_size": 224} | TIMM_FIELDS.read("vision_cfg", TIMM_DEFAULTS | values)
        named = CONVNEXTS[values["timm_model_name"]]
        return cls(
            values["image_size"], **named, proj=values["timm_proj"],
            proj_bias=bool(values.get("timm_proj_bias")), drop=values.get("timm_drop") or 0.0,
            drop_path=values.get("timm_drop_path") or 0.0,
        )  # fmt: skip

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        if self.timm_name is None:
            return asdict(self) | {"layers": list(self.layers), "pool_type": "convnext"}
        values = {"timm_model_name": self.timm_name, "timm_model_pretrained": False}
        values |= {"timm_pool": "", "timm_proj": self.proj, "timm_drop": self.drop}
        values |= {"timm_drop_path": self.drop_path}
        return values | ({"timm_proj_bias": True} if self.proj_bias else {})

    def is_portable(self) -> bool:
        return self.timm_name is not None

    @property
    def timm_name(self) -> str | None:
        """timm's name of a tower of this size, or None if it has none."""
        for name, numbers in CONVNEXTS.items():
            named = ConvNextConfig(self.image_size, **numbers)
            if all(getattr(named, field) == getattr(self, field) for field in SHAPE):
                return name
        return None

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        first = "visual.trunk.stages.0.blocks.0.conv_dw.weight"
        return first in tensors and "visual.trunk.stem.0.weight" in tensors

    @classmethod
    def of_weights(
        cls, tensors: Mapping[str, Tensor], activation: str
    ) -> tuple["ConvNextConfig", int]:
        raise CheckpointError(
            "these are the weights of a ConvNeXt, which do not show the size of its images: give "
            "the name or the configuration of the model"
        )

    def shape(self) -> tuple:
        return ConvNextConfig, self.width, self.layers, self.proj


# ConvNeXt in fastclip's own fields, for sizes that timm has no name for.
CONVNEXT_FIELDS = json_fields(names_of(ConvNextConfig) | {"pool_type"}, VISION, POOLER | NO_TIMM)
TIMM_FIELDS = json_fields(
    {"timm_model_name", "image_size", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"},
    VISION | {"timm_pool": ("", "avg"), "timm_model_pretrained": (False,)},
    POOLER,
)
