"""The configuration of SigLIP 2's NaFlex vision transformer.

open_clip's main branch takes this tower from timm, by a name that determines the tower's size. A
tower of another size is written in fastclip's own fields, with `pool_type` "naflex_map".

Source: open_clip's configurations of SigLIP2-naflex; NaFlexVit of timm 1.0; Siglip2Model of
transformers 5.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from fastclip.data.limits import MOST_PATCHES
from fastclip.data.patches import NAFLEX
from fastclip.data.preprocess import INCEPTION_MEAN, INCEPTION_STD, PreprocessCfg
from fastclip.data.quoting import quoted
from fastclip.models.checkpoints.correspondence import Correspondence, flat_grid, layer
from fastclip.models.checkpoints.shapes import depth_of, side_of, sizes_of
from fastclip.models.open_clip_fields import (
    NO_TIMM,
    POOLER,
    TIMM_DEFAULTS,
    VISION,
    json_fields,
    names_of,
)
from fastclip.models.parts.mlp_ratio import mlp_ratio
from fastclip.models.towers.config_checks import require_multiple, require_sizes
from fastclip.models.towers.patch_config import PatchTowerConfig
from fastclip.models.towers.siglip.config import SIGLIP_SIZES, SiglipVisionConfig, siglip_rows
from fastclip.models.towers.text.config import TextConfig

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig
    from fastclip.models.towers.naflex.module import NaflexVisionTransformer

TIMM_NAMES = {f"naflexvit_{size}_patch16_siglip": size for size in ("base", "so400m")}
# timm's defaults of what the names leave open: 256 patches, from an image of 256 x 256 pixels.
NAMED = dict(image_size=256, patch_size=16)
PROJECTION = "visual.trunk.embeds.proj.weight"


@dataclass(frozen=True)
class NaflexConfig(PatchTowerConfig):
    """The configuration of SigLIP's vision transformer for images of any size and aspect ratio.

    Attributes:
        image_size: the size of an image with the default number of patches, a multiple of
            `patch_size`; code that needs a fixed size, such as a trace, uses it.
        position_grid: rows and columns of the learned positions, which are resized to the grid of
            every image.
        patch_dropout: must be 0; a `pixel_attention_mask` can leave out patches instead.

    Raises:
        ValueError: as for `VisionConfig`; `position_grid` is not two positive numbers, or
            `patch_dropout` is not 0.
    """

    kind: ClassVar = "NaFlex tower"
    has_projection: ClassVar = False
    transformers_model: ClassVar = "siglip2"
    tokens_may_be_padding: ClassVar = True

    image_size: tuple[int, int]
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-6
    position_grid: tuple[int, int] = (16, 16)
    patch_dropout: float = 0.0
    output_tokens: bool = False

    def __post_init__(self) -> None:
        self.check_patches_and_blocks(whole=True)
        require_sizes(heads=self.heads)
        require_multiple("width", self.width, "heads", self.heads)
        grid = self.position_grid
        if not isinstance(grid, (tuple, list)) or len(grid) != 2:
            raise ValueError(f"position_grid must be (rows, columns), got {quoted(grid)}")
        require_sizes(MOST_PATCHES, **{f"position_grid[{i}]": size for i, size in enumerate(grid)})
        object.__setattr__(self, "position_grid", tuple(grid))
        if self.patch_dropout != 0:
            raise ValueError(
                f"patch_dropout must be 0 in a {self.kind}, got {self.patch_dropout!r}: to leave "
                "out patches, give images with a pixel_attention_mask that is 0 there"
            )

    def build(self, embed_dim: int) -> "NaflexVisionTransformer":
        from fastclip.models.towers.naflex.module import NaflexVisionTransformer

        return NaflexVisionTransformer(self)

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        from fastclip.models.towers.naflex.presets import presets

        return presets()

    def preprocess(self) -> PreprocessCfg:
        return PreprocessCfg(
            self.image_size, mean=INCEPTION_MEAN, std=INCEPTION_STD, interpolation="bilinear",
            resize_mode=NAFLEX, patch_size=self.patch_size,
        )  # fmt: skip

    def num_matrix_parameters(self) -> int:
        num_positions = math.prod(self.position_grid) - math.prod(self.grid_size)
        of_patches = num_positions * self.width + 3 * self.patch_size**2 * self.width
        return super().num_matrix_parameters() + of_patches

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        if values.get("pool_type") == "naflex_map":
            return True
        name, readout = values.get("timm_model_name"), TIMM_DEFAULTS | dict(values)
        is_named = isinstance(name, str) and name in TIMM_NAMES
        return is_named and readout["timm_pool"] == "map" and readout["timm_proj"] == "none"

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "NaflexConfig":
        if not (timm_name := values.get("timm_model_name")):
            values = NAFLEX_FIELDS.read("vision_cfg", values)
            return cls(**{k: v for k, v in values.items() if k != "pool_type"})
        values = TIMM_FIELDS.read("vision_cfg", values)
        num_patches = values.pop("image_seq_len", None)
        del values["timm_model_name"]
        named = cls(**NAMED, **SIGLIP_SIZES[TIMM_NAMES[timm_name]])
        tower = replace(named, **{k: v for k, v in values.items() if v is not None})
        if num_patches not in (None, math.prod(tower.grid_size)):
            raise ValueError(
                f"vision_cfg: image_seq_len {quoted(num_patches)} is not supported: it must be "
                f"{math.prod(tower.grid_size)}, the number of patches of image_size "
                f"{tower.image_size}"
            )
        return tower

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        name = self.timm_name
        if name is None:
            return asdict(self) | {
                "position_grid": list(self.position_grid), "pool_type": "naflex_map",
            }  # fmt: skip
        values = {"timm_model_name": name, "timm_model_pretrained": False}
        values |= {"timm_pool": "map", "timm_proj": "none"}
        return values | ({"output_tokens": True} if self.output_tokens else {})

    def is_portable(self) -> bool:
        return self.timm_name is not None

    @property
    def timm_name(self) -> str | None:
        """timm's name of a tower of this size, or None if it has none."""
        plain = replace(self, image_size=NAMED["image_size"], output_tokens=False)
        for name, size in TIMM_NAMES.items():
            if NaflexConfig(**NAMED, **SIGLIP_SIZES[size]) == plain:
                return name
        return None

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        is_read_out = "visual.trunk.attn_pool.latent" in tensors
        return PROJECTION in tensors and tensors[PROJECTION].ndim == 2 and is_read_out

    @classmethod
    def of_weights(
        cls, tensors: Mapping[str, Tensor], activation: str
    ) -> tuple["NaflexConfig", int]:
        trunk = "visual.trunk."
        width, num_values = sizes_of(tensors, PROJECTION, 2)
        patch_size = side_of(num_values // 3, PROJECTION)
        _, rows, columns, _ = sizes_of(tensors, f"{trunk}embeds.pos_embed", 4)
        # Shapes do not show the size of the images, which is assumed to fit the positions.
        tower = cls(
            (rows * patch_size, columns * patch_size), patch_size, width,
            depth_of(tensors, f"{trunk}blocks."), heads=1,
            mlp_ratio=mlp_ratio(*sizes_of(tensors, f"{trunk}blocks.0.mlp.fc1.weight", 2)),
            activation=activation, position_grid=(rows, columns),
        )  # fmt: skip
        return tower, width

    @classmethod
    def text_of_weights(cls, tensors: Mapping[str, Tensor], activation: str) -> TextConfig:
        return SiglipVisionConfig.text_of_weights(tensors, activation)

    def with_heads(self, heads: int) -> "NaflexConfig":
        return replace(self, heads=heads)

    def transformers_rows(self) -> Iterator[Correspondence]:
        embeds, theirs = "visual.trunk.embeds.", "vision_model.embeddings."
        yield from layer(f"{embeds}proj", f"{theirs}patch_embedding")
        positions = f"{theirs}position_embedding.weight"
        yield flat_grid(f"{embeds}pos_embed", positions, self.position_grid)
        yield from siglip_rows(self.layers)


# The tower in fastclip's own fields, for sizes that timm has no name for.
NAFLEX_FIELDS = json_fields(names_of(NaflexConfig) | {"pool_type"}, VISION, POOLER | NO_TIMM)
# The fields that may accompany timm's name.
TIMM_FIELDS = json_fields(
    {"timm_model_name", "image_size", "image_seq_len", "output_tokens"},
    VISION
    | {
        "timm_pool": ("map",),
        "timm_proj": ("none",),
        "timm_drop_path": (None, 0.0),
        "timm_model_pretrained": (False,),
    },
    POOLER
    | {
        "timm_drop": "open_clip only drops before its projection, and timm_proj is 'none'.",
        "timm_proj_bias": "There is no projection: timm_proj is 'none'.",
    },
)
