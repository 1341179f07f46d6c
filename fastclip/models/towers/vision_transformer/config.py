"""The configuration of CLIP's vision transformer."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from fastclip.data.limits import MOST_CHANNELS, MOST_PATCHES
from fastclip.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, PreprocessCfg
from fastclip.models.checkpoints.correspondence import (
    OPENAI_BLOCK,
    Correspondence,
    block,
    layer,
    same,
    transposed,
)
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.shapes import depth_of, side_of, sizes_of
from fastclip.models.open_clip_fields import (
    NO_TIMM,
    READ_AS_OURS,
    VISION,
    json_fields,
    names_of,
)
from fastclip.models.parts.mlp_ratio import mlp_ratio
from fastclip.models.towers.block_json import blocks_from_json, blocks_to_json
from fastclip.models.towers.config_checks import (
    require_choice,
    require_exponents,
    require_flags,
    require_multiple,
    require_sizes,
)
from fastclip.models.towers.image_config import Positions
from fastclip.models.towers.patch_config import PatchTowerConfig

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig
    from fastclip.models.towers.vision_transformer.module import VisionTransformer

VISION_POOLS = ("tok", "avg")
OF_POOLER = ("attn_pooler_queries", "attn_pooler_heads")


@dataclass(frozen=True)
class VisionConfig(PatchTowerConfig):
    """The configuration of a vision transformer, which cuts images into square patches.

    Attributes:
        image_size: height and width in pixels, or one number for both.
        patch_size: the side of a patch in pixels.
        head_width: channels per attention head.
        mlp_ratio: the hidden width of an MLP divided by `width`.
        activation: see `parts/activations.py`.
        patch_dropout: the fraction of patches that is dropped in training.
        pool_type: "tok" reads the class token, "avg" the mean of the patches.
        no_ln_pre: whether there is no normalisation before the first block.
        final_ln_after_pool: whether the pooled token is normalised instead of all tokens.
        ls_init_value: the initial value of LayerScale, or None for no LayerScale.
        channels: 3, or 1 for grey images.
        output_tokens: whether the tower returns the tokens of its patches along with its features.
        attentional_pool: whether learned queries read the tokens (CoCa). `pool_type` then pools the
            results of the queries, which are also the tokens that are returned, as wide as the
            features.
        attn_pooler_queries, attn_pooler_heads: the numbers of queries and heads of that pooler.

    Raises:
        ValueError: a value is out of its range, the image is not a whole number of patches, or
            `width` is not a multiple of `head_width`.
    """

    kind: ClassVar = "vision transformer"
    positions: ClassVar = Positions("positional_embedding", num_before=1)
    is_openais: ClassVar = True
    transformers_model: ClassVar = "clip"

    image_size: tuple[int, int]
    patch_size: int
    width: int
    layers: int
    head_width: int = 64
    mlp_ratio: float = 4.0
    activation: str = "gelu"
    patch_dropout: float = 0.0
    pool_type: str = "tok"
    no_ln_pre: bool = False
    final_ln_after_pool: bool = False
    ls_init_value: float | None = None
    norm_eps: float = 1e-5
    channels: int = 3
    output_tokens: bool = False
    attentional_pool: bool = False
    attn_pooler_queries: int = 256
    attn_pooler_heads: int = 8

    def __post_init__(self) -> None:
        self.check_patches_and_blocks(whole=True)
        require_sizes(MOST_CHANNELS, channels=self.channels)
        require_sizes(head_width=self.head_width)
        require_multiple("width", self.width, "head_width", self.head_width)
        require_choice("pool_type", self.pool_type, VISION_POOLS)
        if self.ls_init_value is not None:
            require_exponents(ls_init_value=self.ls_init_value)
        require_flags(
            no_ln_pre=self.no_ln_pre, final_ln_after_pool=self.final_ln_after_pool,
            attentional_pool=self.attentional_pool,
        )  # fmt: skip
        require_sizes(MOST_PATCHES, attn_pooler_queries=self.attn_pooler_queries)
        require_sizes(attn_pooler_heads=self.attn_pooler_heads)
        if self.attentional_pool and self.final_ln_after_pool:
            raise ValueError("final_ln_after_pool must be false with attentional_pool")

    @property
    def heads(self) -> int:
        return self.width // self.head_width

    @property
    def num_patches(self) -> int:
        return math.prod(self.grid_size)

    def token_width(self, embed_dim: int) -> int:
        return embed_dim if self.attentional_pool else self.width

    def num_matrix_parameters(self) -> int:
        pooled = self.attn_pooler_queries + 4 * self.width if self.attentional_pool else 0
        return super().num_matrix_parameters() + pooled * self.width

    def shape(self) -> tuple:
        pooler = (self.attn_pooler_queries,) if self.attentional_pool else ()
        return *super().shape(), *pooler

    def build(self, embed_dim: int) -> "VisionTransformer":
        from fastclip.models.towers.vision_transformer.module import VisionTransformer

        return VisionTransformer(self, embed_dim)

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        from fastclip.models.towers.vision_transformer.presets import presets

        return presets()

    def preprocess(self) -> PreprocessCfg:
        if self.no_ln_pre:  # CLIPA
            return PreprocessCfg(
                self.image_size, mean=IMAGENET_MEAN, std=IMAGENET_STD, interpolation="bilinear",
                resize_mode="squash",
            )  # fmt: skip
        return super().preprocess()

    def with_quick_gelu(self) -> "VisionConfig":
        return replace(self, activation="quick_gelu")

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        return True  # open_clip builds a vision transformer if nothing else is asked for

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "VisionConfig":
        values = VISION_FIELDS.read("vision_cfg", values)
        if not values.get("attentional_pool"):
            for name in OF_POOLER:
                values.pop(name, None)  # nothing else uses them
        sizes = dict(image_size=224, patch_size=16, width=768, layers=12)
        return cls(**sizes | blocks_from_json("vision_cfg", values, quick_gelu))

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        return blocks_to_json(self, quick_gelu)

    def is_portable(self) -> bool:
        return self.channels == 3  # open_clip has no field for grey images

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        return "visual.proj" in tensors

    @classmethod
    def of_weights(
        cls, tensors: Mapping[str, Tensor], activation: str
    ) -> tuple["VisionConfig", int]:
        if "visual.ln_pre.weight" not in tensors:
            raise CheckpointError(
                "the vision tower has no ln_pre, and its shapes do not show how its features are "
                "pooled: give the name of the model"
            )
        width, channels, _, patch_size = sizes_of(tensors, "visual.conv1.weight", 4)
        blocks = "visual.transformer.resblocks."
        positions = "visual.positional_embedding"
        grid = side_of(sizes_of(tensors, positions, 2)[0] - 1, positions)
        tower = cls(
            grid * patch_size, patch_size, width, depth_of(tensors, blocks), head_width=width,
            mlp_ratio=mlp_ratio(*sizes_of(tensors, f"{blocks}0.mlp.c_fc.weight", 2)),
            activation=activation,
            ls_init_value=1e-4 if f"{blocks}0.ls_1.gamma" in tensors else None,
            channels=channels,
        )  # fmt: skip
        return tower, sizes_of(tensors, "visual.proj", 2)[1]

    def with_heads(self, heads: int) -> "VisionConfig":
        return replace(self, head_width=self.width // heads)

    def what_openai_lacks(self) -> dict[str, bool]:
        return {
            "heads of 64 channels in the vision tower": self.head_width != 64,
            "image pooling by the class token": self.pool_type != "tok",
            "a norm before the first block": self.no_ln_pre,
            "norms of epsilon 1e-5 in the vision tower": self.norm_eps != 1e-5,
            "no LayerScale in the vision tower": self.ls_init_value is not None,
            "MLPs of 4 times the width in the vision tower": self.mlp_ratio != 4,
            "images of three channels": self.channels != 3,
            "no attentional pooler": self.attentional_pool,
        }

    def transformers_rows(self) -> Iterator[Correspondence]:
        vision = "vision_model."
        embeddings = f"{vision}embeddings."
        yield same("visual.class_embedding", f"{embeddings}class_embedding")
        yield same("visual.conv1.weight", f"{embeddings}patch_embedding.weight")
        yield same("visual.positional_embedding", f"{embeddings}position_embedding.weight")
        yield from layer("visual.ln_pre", f"{vision}pre_layrnorm")  # theirs is spelt so
        yield from layer("visual.ln_post", f"{vision}post_layernorm")
        yield transposed("visual.proj", "visual_projection.weight")
        for i in range(self.layers):
            ours, theirs = f"visual.transformer.resblocks.{i}.", f"{vision}encoder.layers.{i}."
            yield from block(ours, theirs, OPENAI_BLOCK)


VISION_FIELDS = json_fields(names_of(VisionConfig) | READ_AS_OURS, VISION, NO_TIMM)
