"""The configuration of TIPS's vision transformer.

open_clip has no such tower. It is written in fastclip's own fields, with `pool_type` "two_tokens".

Source: Maninis et al. 2025 (TIPS), arXiv:2410.16512; Cao et al. 2026 (TIPSv2), arXiv:2604.12012.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from fastclip.data.preprocess import PreprocessCfg
from fastclip.models.checkpoints.correspondence import Correspondence
from fastclip.models.checkpoints.shapes import depth_of, side_of, sizes_of
from fastclip.models.open_clip_fields import NO_TIMM, POOLER, VISION, json_fields, names_of
from fastclip.models.parts.mlp_ratio import mlp_ratio
from fastclip.models.parts.swiglu import gated_width
from fastclip.models.towers.config_checks import (
    require_choice,
    require_exponents,
    require_flags,
    require_multiple,
    require_sizes,
)
from fastclip.models.towers.image_config import Positions
from fastclip.models.towers.patch_config import PatchTowerConfig
from fastclip.models.towers.tips.names import TIPS_BLOCK, as_published, block_names

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig
    from fastclip.models.towers.tips.module import TipsVisionTransformer

# In the order of the tokens: the first was trained with captions from the web, the second with
# captions that a model wrote.
CLASS_TOKENS = ("alt_text", "synthetic")
PLAIN_RATIO = 4.0  # `mlp_ratio` of all towers with gated MLPs, whose shapes do not show it


@dataclass(frozen=True)
class TipsVisionConfig(PatchTowerConfig):
    """The configuration of TIPS's vision transformer.

    The tower is DINOv2's with a second class token, and has no projection.

    Attributes:
        feature_token: the class token that becomes the feature of an image: "alt_text", the first,
            as in transformers, or "synthetic", the second.
        swiglu: whether MLPs have a gate; their hidden width is then two thirds of what `mlp_ratio`
            gives.
        ls_init_value: the initial value of LayerScale.

    Raises:
        ValueError: as for `VisionConfig`.

    Example:
        >>> config = fastclip.get_model_config("TIPS-v2-B-14")
        >>> second = replace(config.vision_cfg, feature_token="synthetic")
        >>> model = fastclip.create_model("TIPS-v2-B-14", vision_cfg=second)
    """

    kind: ClassVar = "TIPS tower"
    positions: ClassVar = Positions("pos_embed", num_before=1, interpolation="bilinear")
    has_projection: ClassVar = False
    transformers_model: ClassVar = "tipsv2"

    image_size: tuple[int, int]
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    swiglu: bool = False
    feature_token: str = "alt_text"
    ls_init_value: float = 1.0
    patch_dropout: float = 0.0
    norm_eps: float = 1e-6
    output_tokens: bool = False
    activation: str = "gelu"

    def __post_init__(self) -> None:
        self.check_patches_and_blocks(whole=True)
        require_sizes(heads=self.heads)
        require_multiple("width", self.width, "heads", self.heads)
        require_flags(swiglu=self.swiglu)
        require_choice("feature_token", self.feature_token, CLASS_TOKENS)
        require_exponents(ls_init_value=self.ls_init_value)
        require_choice("activation", self.activation, ("gelu",))

    @property
    def hidden_width(self) -> int:
        """The hidden width that `mlp_ratio` gives; an MLP with a gate has two thirds of it."""
        return int(self.width * self.mlp_ratio)

    def build(self, embed_dim: int) -> "TipsVisionTransformer":
        from fastclip.models.towers.tips.module import TipsVisionTransformer

        return TipsVisionTransformer(self)

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        from fastclip.models.towers.tips.presets import presets

        return presets()

    def preprocess(self) -> PreprocessCfg:
        """Return TIPS's preprocessing: the whole image, squashed, with pixels from 0 to 1."""
        return PreprocessCfg(
            self.image_size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear",
            resize_mode="squash",
        )  # fmt: skip

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        return values.get("pool_type") == "two_tokens"

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "TipsVisionConfig":
        values = TIPS_FIELDS.read("vision_cfg", values)
        return cls(**{k: v for k, v in values.items() if k != "pool_type"})

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        names = names_of(TipsVisionConfig) - {"image_size"}
        values = {name: getattr(self, name) for name in sorted(names)}
        return {k: v for k, v in values.items() if v != getattr(TipsVisionConfig, k, None)} | {
            "pool_type": "two_tokens"
        }

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        return "visual.register_tokens" in tensors

    @classmethod
    def of_weights(
        cls, tensors: Mapping[str, Tensor], activation: str
    ) -> tuple["TipsVisionConfig", int]:
        width, _, patch_size, _ = sizes_of(tensors, "visual.patch_embed.proj.weight", 4)
        side = side_of(sizes_of(tensors, "visual.pos_embed", 3)[1] - 1, "visual.pos_embed")
        first = "visual.blocks.0.mlp."
        has_gate = f"{first}w12.weight" in tensors
        ratio = PLAIN_RATIO
        if not has_gate:
            ratio = mlp_ratio(sizes_of(tensors, f"{first}fc1.weight", 2)[0], width)
        vision = cls(
            side * patch_size, patch_size, width, depth_of(tensors, "visual.blocks."), heads=1,
            mlp_ratio=ratio, swiglu=has_gate, activation=activation,
        )  # fmt: skip
        return vision, width

    def with_heads(self, heads: int) -> "TipsVisionConfig":
        return replace(self, heads=heads)

    def shape(self) -> tuple:
        inner = gated_width(self.hidden_width) if self.swiglu else self.hidden_width
        return TipsVisionConfig, self.width, self.layers, inner, self.swiglu

    def transformers_rows(self) -> Iterator[Correspondence]:
        """Yield the correspondence with published files, which transformers reads and writes."""
        names = ("cls_token", "register_tokens", "pos_embed")
        names += ("patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias")
        of_blocks = [
            f"blocks.{i}.{name}"
            for i in range(self.layers)
            for name in block_names(TIPS_BLOCK, self.swiglu)
        ]
        for name in (*names, *of_blocks):
            yield as_published(f"visual.{name}")
        # Pretraining with hidden patches used this token. No feature depends on it, so it is not
        # kept.
        width = self.width
        yield Correspondence(
            (), ("vision_encoder.mask_token",), lambda: (torch.zeros(1, width),), lambda x: ()
        )


TIPS_FIELDS = json_fields(names_of(TipsVisionConfig) | {"pool_type"}, VISION, POOLER | NO_TIMM)
