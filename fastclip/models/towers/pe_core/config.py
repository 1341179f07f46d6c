"""The configuration of PE-Core's vision transformer.

open_clip takes this tower from timm, by a name that determines the tower's size. A tower of another
size is written in fastclip's own fields, with `pool_type` "rotary_map".

Source: the PE-Core models of timm 1.0.31.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from fastclip.data.preprocess import INCEPTION_MEAN, INCEPTION_STD, PreprocessCfg
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.open_clip_fields import (
    NO_TIMM,
    POOLER,
    TIMM_DEFAULTS,
    VISION,
    json_fields,
    names_of,
)
from fastclip.models.towers.config_checks import require_flags, require_multiple, require_sizes
from fastclip.models.towers.image_config import Positions
from fastclip.models.towers.patch_config import PatchTowerConfig

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig
    from fastclip.models.towers.pe_core.module import PECore

PE_CORES: dict[str, dict[str, Any]] = {
    "vit_pe_core_tiny_patch16_384": dict(
        image_size=384, patch_size=16, width=192, layers=12, heads=3
    ),
    "vit_pe_core_small_patch16_384": dict(
        image_size=384, patch_size=16, width=384, layers=12, heads=6
    ),
    "vit_pe_core_base_patch16_224": dict(
        image_size=224, patch_size=16, width=768, layers=12, heads=12
    ),
    "vit_pe_core_large_patch14_336": dict(
        image_size=336, patch_size=14, width=1024, layers=24, heads=16
    ),
    "vit_pe_core_gigantic_patch14_448": dict(
        image_size=448, patch_size=14, width=1536, layers=50, heads=16, mlp_ratio=8960 / 1536,
        class_token=False, first_place=0,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class PECoreConfig(PatchTowerConfig):
    """The configuration of PE-Core's vision transformer: rotary positions, attention pooling.

    Attributes:
        class_token: whether there is a class token besides the patches' tokens.
        first_place: the number of the first row and column of patches, for rotary positions.
        reference_grid: rows and columns of the grid in which rotary positions are counted; the grid
            of another image size is stretched over it. None means the grid of `image_size`.

    Raises:
        ValueError: as for `VisionConfig`; or the channels of a head are not a multiple of 4, or
            `width` is not a multiple of 8, the number of heads that pool the tokens.
    """

    kind: ClassVar = "PE-Core tower"
    positions: ClassVar = Positions("trunk.pos_embed", num_before=1)

    image_size: tuple[int, int]
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    class_token: bool = True
    first_place: int = 1
    reference_grid: tuple[int, int] | None = None
    patch_dropout: float = 0.0
    norm_eps: float = 1e-5
    output_tokens: bool = False
    activation: str = "gelu"

    def __post_init__(self) -> None:
        self.check_patches_and_blocks(whole=False)
        require_sizes(heads=self.heads)
        require_multiple("width", self.width, "4 * heads", 4 * self.heads)
        require_multiple("width", self.width, "the heads that pool the tokens", 8)
        require_flags(class_token=self.class_token)
        if self.first_place not in (0, 1):
            raise ValueError(f"first_place must be 0 or 1, got {self.first_place!r}")
        if self.activation != "gelu":
            raise ValueError(f"activation must be 'gelu', got {self.activation!r}")
        grid = tuple(self.reference_grid or self.grid_size)
        if len(grid) != 2:
            raise ValueError(f"reference_grid must be (rows, columns), got {grid}")
        require_sizes(**{f"reference_grid[{i}]": size for i, size in enumerate(grid)})
        object.__setattr__(self, "reference_grid", grid)
        if not self.class_token:
            object.__setattr__(self, "positions", Positions("trunk.pos_embed", num_before=0))

    @property
    def num_prefix(self) -> int:
        """The number of tokens that come before the patches' tokens."""
        return int(self.class_token)

    def build(self, embed_dim: int) -> "PECore":
        from fastclip.models.towers.pe_core.module import PECore

        return PECore(self, embed_dim)

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        from fastclip.models.towers.pe_core.presets import presets

        return presets()

    def preprocess(self) -> PreprocessCfg:
        return PreprocessCfg(
            self.image_size, mean=INCEPTION_MEAN, std=INCEPTION_STD, interpolation="bilinear",
            resize_mode="squash",
        )  # fmt: skip

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        if values.get("pool_type") == "rotary_map":
            return True
        name, readout = values.get("timm_model_name"), TIMM_DEFAULTS | dict(values)
        is_own_readout = readout["timm_pool"] == "map" and readout["timm_proj"] in (None, "")
        return is_own_readout and isinstance(name, str) and name in PE_CORES

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "PECoreConfig":
        if "timm_model_name" not in values:
            values = PE_CORE_FIELDS.read("vision_cfg", values)
            return cls(**{k: v for k, v in values.items() if k != "pool_type"})
        values = TIMM_FIELDS.read("vision_cfg", values)
        named = cls(**PE_CORES[values.pop("timm_model_name")])
        # The name determines the grid of the rotary positions, whatever the size of images.
        return replace(named, **{k: v for k, v in values.items() if v is not None})

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        if self.timm_name is None:
            grid = list(self.reference_grid)
            return asdict(self) | {"reference_grid": grid, "pool_type": "rotary_map"}
        values = {"timm_model_name": self.timm_name, "timm_model_pretrained": False}
        values |= {"timm_pool": "map", "timm_proj": None}
        chosen = {"patch_dropout": self.patch_dropout, "output_tokens": self.output_tokens}
        return values | {field: value for field, value in chosen.items() if value}

    def is_portable(self) -> bool:
        return self.timm_name is not None

    @property
    def timm_name(self) -> str | None:
        """timm's name of this tower, or None if it has none."""
        plain = replace(self, patch_dropout=0.0, output_tokens=False)
        return next(
            (name for name, sizes in PE_CORES.items() if PECoreConfig(**sizes) == plain), None
        )

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        # SigLIP has no norm before its blocks, and EVA's attention has separate biases.
        names = "norm_pre.weight", "attn_pool.latent", "blocks.0.attn.qkv.bias", "head.weight"
        return all(f"visual.trunk.{name}" in tensors for name in names)

    @classmethod
    def of_weights(
        cls, tensors: Mapping[str, Tensor], activation: str
    ) -> tuple["PECoreConfig", int]:
        raise CheckpointError(
            "these are the weights of a PE-Core tower, which do not show its rotary positions: "
            "give the name or the configuration of the model"
        )


# PE-Core's tower in fastclip's own fields, for sizes that timm has no name for.
PE_CORE_FIELDS = json_fields(names_of(PECoreConfig) | {"pool_type"}, VISION, POOLER | NO_TIMM)
# The fields that may accompany timm's name.
TIMM_FIELDS = json_fields(
    {"timm_model_name", "image_size", "patch_dropout", "output_tokens"},
    VISION
    | {
        "timm_pool": ("map",),
        "timm_proj": (None, ""),
        "timm_drop_path": (None, 0.0),
        "timm_model_pretrained": (False,),
    },
    POOLER
    | {
        "timm_drop": "open_clip only drops before its own projection, and timm_proj is not given.",
        "timm_proj_bias": "The trunk projects its features itself, with a bias.",
    },
)
